"""What can go wrong, as exceptions. They are raised by the client and never sent.

ToolwrightError
├── ToolFailed                the tool ran and failed; `.execution` has the rest
├── InvalidRequest            INVALID_ARGUMENT
│   └── InvalidArguments      the arguments break the tool's schema: `.violations`
├── NotFound                  NOT_FOUND
│   ├── ToolNotFound
│   └── ExecutionNotFound
├── RequestIdReused           ALREADY_EXISTS
├── Unauthenticated           UNAUTHENTICATED
├── Forbidden                 PERMISSION_DENIED
├── PreconditionFailed        FAILED_PRECONDITION
│   ├── ToolDisabled
│   ├── InvalidState
│   ├── BatchStopped          an earlier call of the batch did not succeed: this one was not begun
│   └── ApprovalRequired
├── LimitReached              RESOURCE_EXHAUSTED
│   ├── RateLimited           try again after `.retry_delay`
│   ├── ConcurrencyLimited    try again after `.retry_delay`
│   ├── BudgetExceeded
│   ├── InsufficientCredits
│   └── PayloadTooLarge
├── DeadlineExceeded          DEADLINE_EXCEEDED: the caller's own deadline
│   └── ToolTimedOut          the tool's, the category's, the request's or the server's
├── ExecutionCancelled        CANCELLED
├── Aborted                   ABORTED
│   ├── EtagMismatch          somebody else has changed it: read it again
│   ├── OutcomeUnknown        a side effect may have happened: look it up, never resend
│   └── SlowConsumer          the reader of a stream lagged; streams re-attach by themselves
├── EventsExpired             OUT_OF_RANGE: `.first_sequence` is the first event still kept
├── Unavailable               UNAVAILABLE
│   ├── NotConnected          no server was reached, so nothing was sent
│   ├── ConnectionLost        the connection ended without an answer
│   ├── ServerDraining        try again, elsewhere
│   ├── UpstreamUnavailable
│   ├── CircuitOpen
│   └── StoreUnavailable
└── ServerError               INTERNAL, UNKNOWN, UNIMPLEMENTED, DATA_LOSS
    └── RecordFailed          the tool ran and its outcome could not be recorded: look it up
"""

from collections.abc import Mapping

import grpc

from toolwright_client.model import UNKNOWN, Execution, Failure, Violation


class ToolwrightError(Exception):
    """A call that did not succeed. It survives pickling, so that it may cross processes."""

    def __init__(self, failure: Failure, *, request_id: str = "", execution: Execution | None = None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.request_id = request_id
        """The call's own name: `client.find(request_id)` looks up what became of it. Empty where there was no call."""
        self.execution = execution
        """The execution, where the answer carried it."""

    @property
    def code(self) -> grpc.StatusCode:
        return self.failure.code

    @property
    def reason(self) -> str:
        """In UPPER_SNAKE_CASE; empty when what answered was no Toolwright server."""
        return self.failure.reason

    @property
    def message(self) -> str:
        """For developers."""
        return self.failure.message

    @property
    def user_message(self) -> str:
        """For the end user; may be empty."""
        return self.failure.user_message

    @property
    def suggested_action(self) -> str:
        """One imperative sentence that a model can follow; may be empty."""
        return self.failure.suggested_action

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.failure.retryable

    @property
    def retry_delay(self) -> float | None:
        """Seconds to wait before the next try; absent: not known, or not retryable."""
        return self.failure.retry_delay

    @property
    def metadata(self) -> Mapping[str, str]:
        """Facts for programs."""
        return self.failure.metadata

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What is wrong with the arguments; empty unless that was it."""
        return self.failure.violations

    @property
    def execution_id(self) -> str:
        """Empty when no execution came of the call, or none is known."""
        return self.execution.execution_id if self.execution else self.metadata.get("execution_id", "")

    @property
    def outcome(self) -> str:
        """`not_started`, `none` (no side effect) or `unknown`; empty when nothing was said about it."""
        return self.metadata.get("outcome", "")

    def __str__(self) -> str:
        name = f"{self.code.name} {self.reason}".strip()
        action = f" {self.suggested_action}" if self.suggested_action else ""
        doubt = f" (request_id {self.request_id})" if self.request_id and self.outcome == UNKNOWN else ""
        return f"{name}: {self.message}{doubt}{action}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.failure, self.request_id, self.execution)


def _rebuilt(
    kind: type[ToolwrightError], failure: Failure, request_id: str, execution: Execution | None
) -> ToolwrightError:
    return kind(failure, request_id=request_id, execution=execution)


class ToolFailed(ToolwrightError):
    """The tool ran and failed: TOOL_FAILED, TOOL_CRASHED, MEMORY_LIMIT, OUTPUT_LIMIT, OUTPUT_INVALID."""


class InvalidRequest(ToolwrightError):
    """The request itself is wrong."""


class InvalidArguments(InvalidRequest):
    """The arguments break the tool's schema, or are not JSON."""


class NotFound(ToolwrightError):
    """There is no such thing, or it is somebody else's."""


class ToolNotFound(NotFound):
    """There is no such tool."""


class ExecutionNotFound(NotFound):
    """There is no such execution (any more), or it is somebody else's."""


class RequestIdReused(ToolwrightError):
    """The request id was used for another call."""


class Unauthenticated(ToolwrightError):
    """No credentials, or wrong ones."""


class Forbidden(ToolwrightError):
    """The caller may not do that."""


class PreconditionFailed(ToolwrightError):
    """Not now: something else must be done first."""


class ToolDisabled(PreconditionFailed):
    """The tool is switched off."""


class InvalidState(PreconditionFailed):
    """The execution is in a state that does not allow it."""


class BatchStopped(PreconditionFailed):
    """An earlier call of the batch did not succeed, and `stop_on_failure` was set: this one was not begun."""


class ApprovalRequired(PreconditionFailed):
    """A person must approve the call first."""


class LimitReached(ToolwrightError):
    """A limit was reached, and nothing was started."""


class RateLimited(LimitReached):
    """Too many calls in a while."""


class ConcurrencyLimited(LimitReached):
    """Too many calls at once."""


class BudgetExceeded(LimitReached):
    """The task would cost more than it may."""


class InsufficientCredits(LimitReached):
    """The user has not enough credits."""


class PayloadTooLarge(LimitReached):
    """The arguments are too large."""


class DeadlineExceeded(ToolwrightError):
    """The caller's deadline passed. `.outcome` says whether a side effect may have happened."""


class ToolTimedOut(DeadlineExceeded):
    """A limit of the call, the tool, its category or the server passed before the caller's."""


class ExecutionCancelled(ToolwrightError):
    """The execution was cancelled, by somebody other than the task that waits for it."""


class Aborted(ToolwrightError):
    """The server broke off."""


class EtagMismatch(Aborted):
    """Somebody else has changed it meanwhile: read it again, and decide anew."""


class OutcomeUnknown(Aborted):
    """A side effect was sent and nobody can say whether it happened: look it up, never resend."""


class SlowConsumer(Aborted):
    """The reader of a stream lagged until events that must not be dropped were gone."""


class EventsExpired(ToolwrightError):
    """Events that were asked for are no longer kept."""

    @property
    def first_sequence(self) -> int:
        """Number of the first event that is still kept; 0 when the server did not say."""
        text = self.metadata.get("first_sequence", "")
        return int(text) if text.isascii() and text.isdigit() else 0


class Unavailable(ToolwrightError):
    """Something that the call needs cannot be reached."""


class NotConnected(Unavailable):
    """No server was reached, so nothing was sent."""


class ConnectionLost(Unavailable):
    """The connection ended without an answer: the tool may have run."""


class ServerDraining(Unavailable):
    """The server is about to stop."""


class UpstreamUnavailable(Unavailable):
    """What the tool calls cannot be reached."""


class CircuitOpen(Unavailable):
    """What the tool calls failed too often and is left alone for a while."""


class StoreUnavailable(Unavailable):
    """The server cannot reach its store."""


class ServerError(ToolwrightError):
    """A defect of the server, or something that is no Toolwright server."""


class RecordFailed(ServerError):
    """The tool ran and its outcome could not be recorded."""
