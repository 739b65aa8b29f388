"""The one table of what can go wrong: reason → gRPC code, words for people, advice for models.

Every refusal and failure in the server is a `ToolwrightError` or a `Failure` with one of these
reasons. Nothing here knows gRPC: `rpc/status.py` turns an error into a status.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum


class Code(IntEnum):
    """The codes of google.rpc.Code, by number."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means to programs (code, retryable), people (user_message) and models (suggested_action)."""

    code: Code
    user_message: str
    suggested_action: str
    retryable: bool = False


class Reason(Enum):
    """Why a call failed. The name is the machine-readable reason; the value says what follows from it."""

    TOOL_NOT_FOUND = Meaning(
        Code.NOT_FOUND, "This tool does not exist.", "Call ListTools and use one of the names it returns."
    )
    RESOURCE_NOT_FOUND = Meaning(
        Code.NOT_FOUND, "There is no such entry.", "Check the id; do not try again with the same one."
    )
    TOOL_DISABLED = Meaning(
        Code.FAILED_PRECONDITION,
        "This tool is turned off.",
        "Use another tool; do not call this one again unless ListTools says that it is enabled.",
    )
    INVALID_STATE = Meaning(
        Code.FAILED_PRECONDITION, "This cannot be done now.", "Read the current state first, then decide anew."
    )
    INVALID_ARGUMENTS = Meaning(
        Code.INVALID_ARGUMENT, "The request was not understood.", "Correct the fields that are named and call again."
    )
    UNAUTHENTICATED = Meaning(
        Code.UNAUTHENTICATED,
        "You are not signed in, or no longer.",
        "Send a valid API key or token; do not try again with the same one.",
    )
    FORBIDDEN = Meaning(
        Code.PERMISSION_DENIED, "You are not allowed to do this.", "Ask the operator for the permission that is named."
    )
    ETAG_MISMATCH = Meaning(
        Code.ABORTED,
        "Somebody else has changed this meanwhile.",
        "Read it again, decide anew, and send the etag that was read.",
    )
    REQUEST_ID_REUSED = Meaning(
        Code.ALREADY_EXISTS,
        "This request was already made with other content.",
        "Use a new request id for a new request.",
    )
    OUTCOME_UNKNOWN = Meaning(
        Code.ABORTED,
        "Nobody can say yet whether this was done.",
        "Look the execution up by its id; never send the call again.",
    )
    STORE_UNAVAILABLE = Meaning(
        Code.UNAVAILABLE,
        "The service cannot keep its records at the moment.",
        "Wait for the retry delay, then call again.",
        retryable=True,
    )
    RECORD_FAILED = Meaning(
        Code.INTERNAL,
        "It ran, but its outcome could not be recorded.",
        "Look the execution up by its id; never send the call again.",
    )
    RATE_LIMITED = Meaning(
        Code.RESOURCE_EXHAUSTED,
        "Too many calls were made in too short a time.",
        "Wait for the retry delay, then call again.",
        retryable=True,
    )
    BUDGET_EXCEEDED = Meaning(
        Code.RESOURCE_EXHAUSTED,
        "This would cost more than it may.",
        "Do not call again in this task; finish with what is there, or ask for a larger budget.",
    )
    INSUFFICIENT_CREDITS = Meaning(
        Code.RESOURCE_EXHAUSTED,
        "There are not enough credits for this.",
        "Do not call again before somebody has granted credits; use a tool that costs less.",
    )
    CONCURRENCY_LIMITED = Meaning(
        Code.RESOURCE_EXHAUSTED,
        "Too many calls are running at the moment.",
        "Wait for the retry delay, then call again.",
        retryable=True,
    )
    PAYLOAD_TOO_LARGE = Meaning(
        Code.RESOURCE_EXHAUSTED, "The request is too large.", "Send less in one call; do not try again unchanged."
    )
    TOOL_TIMEOUT = Meaning(
        Code.DEADLINE_EXCEEDED,
        "The tool took too long and was stopped.",
        "Ask for less in one call, or give the call a longer timeout; do not repeat it blindly.",
    )
    CLIENT_DEADLINE = Meaning(
        Code.DEADLINE_EXCEEDED,
        "The time given for this call was used up.",
        "Call with a longer deadline; do not repeat the call blindly.",
    )
    UPSTREAM_UNAVAILABLE = Meaning(
        Code.UNAVAILABLE,
        "The tool cannot be reached at the moment.",
        "Wait for the retry delay, then call again.",
        retryable=True,
    )
    ARTIFACT_ELSEWHERE = Meaning(
        Code.UNAVAILABLE,
        "This file lies on another server.",
        "Ask the server that is named, or wait for the retry delay and ask again.",
        retryable=True,
    )
    CIRCUIT_OPEN = Meaning(
        Code.UNAVAILABLE,
        "This fails too often at the moment and is left alone for a while.",
        "Wait for the retry delay, then call again, or use another tool.",
        retryable=True,
    )
    SERVER_DRAINING = Meaning(
        Code.UNAVAILABLE,
        "The server is shutting down.",
        "Call again at once; another server will answer.",
        retryable=True,
    )
    EVENTS_EXPIRED = Meaning(
        Code.OUT_OF_RANGE,
        "The earlier events are no longer kept.",
        "Attach again after the sequence number before the first one that is kept.",
    )
    SLOW_CONSUMER = Meaning(
        Code.ABORTED,
        "The events were read too slowly.",
        "Attach again with WaitExecution after the last sequence number that was seen.",
        retryable=True,
    )
    CANCELLED = Meaning(Code.CANCELLED, "The call was cancelled.", "Do nothing, or make the call anew if still wanted.")
    BATCH_STOPPED = Meaning(
        Code.FAILED_PRECONDITION,
        "This was not begun, because something before it failed.",
        "Read why the earlier call of the batch failed; make this one again if it is still wanted.",
    )
    TOOL_FAILED = Meaning(
        Code.UNKNOWN, "The tool could not do this.", "Read the error, change the call or use another tool."
    )
    TOOL_CRASHED = Meaning(
        Code.INTERNAL, "The tool broke down.", "Do not repeat the call unchanged; use another tool or report it."
    )
    MEMORY_LIMIT = Meaning(Code.RESOURCE_EXHAUSTED, "The tool needed too much memory.", "Ask for less in one call.")
    OUTPUT_LIMIT = Meaning(
        Code.RESOURCE_EXHAUSTED, "The tool's answer was too large.", "Ask for less, or for one page at a time."
    )
    OUTPUT_INVALID = Meaning(
        Code.INTERNAL, "The tool's answer was not valid.", "Do not repeat the call unchanged; report the tool."
    )
    INTERNAL = Meaning(Code.INTERNAL, "Something went wrong on our side.", "Report the trace id to the operator.")

    @property
    def code(self) -> Code:
        """The gRPC code that the reason stands for."""
        return self.value.code


# Reasons of tools that ran and failed: answered in-band, with status OK.
IN_BAND = frozenset(
    {Reason.TOOL_FAILED, Reason.TOOL_CRASHED, Reason.MEMORY_LIMIT, Reason.OUTPUT_LIMIT, Reason.OUTPUT_INVALID}
)

# Reasons that are never a status: only a call of a batch has them.
IN_BATCH = frozenset({Reason.BATCH_STOPPED})


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request: where (`tags[2]`; empty for the whole) and what, in words."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit that was reached: whose it is (`user ada`) and what it says, in words."""

    subject: str
    description: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as it is kept in a record and sent to clients. `message` never holds exception text.

    Empty `user_message` and `suggested_action` mean the reason's own. `retry_delay` is in seconds. `quota` are the
    limits that were reached; it is sent and not kept, as what it refuses never ran. `admin_message` is for operators
    alone: it may hold exception text, is part of no status, and is erased with the payloads, from which it may quote.
    """

    reason: Reason
    message: str
    user_message: str = ""
    suggested_action: str = ""
    retryable: bool | None = None
    retry_delay: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    violations: Sequence[Violation] = ()
    quota: Sequence[QuotaViolation] = ()
    admin_message: str = field(default="", repr=False)

    def words(self) -> tuple[str, str]:
        """`(user_message, suggested_action)`, the reason's own where the failure brings none."""
        meaning = self.reason.value
        return self.user_message or meaning.user_message, self.suggested_action or meaning.suggested_action

    def may_retry(self) -> bool:
        """Whether the same call may succeed later."""
        return self.reason.value.retryable if self.retryable is None else self.retryable


class ToolwrightError(Exception):
    """A call that failed: becomes a gRPC status with google.rpc details."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_delay: float | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.failure = Failure(reason, message, metadata=metadata or {}, retry_delay=retry_delay, violations=violations)

    @classmethod
    def of(cls, failure: Failure) -> "ToolwrightError":
        """The error that carries an existing failure."""
        error = cls(failure.reason, failure.message)
        error.failure = failure
        return error


def invalid(field_name: str, description: str) -> ToolwrightError:
    """INVALID_ARGUMENTS for one field of a request."""
    message = f"{field_name}: {description}" if field_name else description
    return ToolwrightError(Reason.INVALID_ARGUMENTS, message, violations=(Violation(field_name, description),))


_COME_BACK_SECONDS = (0.2, 0.6)


def crowded(limit: int, message: str) -> Failure:
    """CONCURRENCY_LIMITED: nothing was started, and who is refused comes back spread over a while, not at once."""
    return Failure(
        Reason.CONCURRENCY_LIMITED,
        message,
        retry_delay=random.uniform(*_COME_BACK_SECONDS),  # noqa: S311 - spreads load, protects nothing
        metadata={"limit": str(limit), "outcome": "not_started"},
    )


class SettingsError(Exception):
    """A configuration that cannot be right; the text says what to change."""
