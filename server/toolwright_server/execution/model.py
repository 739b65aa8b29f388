"""Invocation and Execution: what was asked and what became of it, with the one table of allowed transitions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from toolwright_server.artifacts.model import Artifact
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure
from toolwright_server.execution.deadline import Deadline, DeadlineSource
from toolwright_server.identity import Caller
from toolwright_server.telemetry.tracing import CallTrace


class State(IntEnum):
    """Where an execution stands; numbers are those of the contract (IntEnum: hashed in C, on every call)."""

    QUEUED = 1
    RUNNING = 2
    RETRYING = 3
    SUCCEEDED = 6
    FAILED = 7
    TIMED_OUT = 8
    CANCELLED = 9
    REJECTED = 10
    OUTCOME_UNKNOWN = 11


TERMINAL = frozenset(
    {State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.REJECTED, State.OUTCOME_UNKNOWN}
)

TRANSITIONS: Mapping[State, frozenset[State]] = {
    # SUCCEEDED: with the answer of another call, kept or joined; see Source.
    State.QUEUED: frozenset(
        {
            State.RUNNING,
            State.RETRYING,
            State.SUCCEEDED,
            State.FAILED,
            State.TIMED_OUT,
            State.CANCELLED,
            State.REJECTED,
        }
    ),
    State.RUNNING: frozenset(
        {State.RETRYING, State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.OUTCOME_UNKNOWN}
    ),
    # REJECTED: no attempt was ever begun. OUTCOME_UNKNOWN: by a survivor, who cannot know that nothing was sent.
    # SUCCEEDED: by a fallback, after the circuit let no further attempt through.
    State.RETRYING: frozenset(
        {
            State.RUNNING,
            State.SUCCEEDED,
            State.FAILED,
            State.TIMED_OUT,
            State.CANCELLED,
            State.REJECTED,
            State.OUTCOME_UNKNOWN,
        }
    ),
    **{state: frozenset[State]() for state in TERMINAL},
    # By reconciliation alone, when it is learned whether it happened after all.
    State.OUTCOME_UNKNOWN: frozenset({State.SUCCEEDED, State.FAILED}),
}


class Stopped(IntEnum):
    """Whether the work was seen to end; numbers are those of the contract."""

    UNSPECIFIED = 0
    YES = 1
    NO = 2
    UNKNOWN = 3


class Source(IntEnum):
    """Where a result came from; numbers are those of the contract."""

    TOOL = 1
    CACHE = 2
    JOINED = 3
    FALLBACK = 4


class CacheMode(IntEnum):
    """What a call does with kept results and with the same call in flight; numbers are those of the contract."""

    DEFAULT = 1
    BYPASS = 2
    REFRESH = 3


@dataclass(frozen=True, slots=True)
class Fallback:
    """What was answered in the place of a tool: by another `tool`, or a fixed value if empty. `failure` says why."""

    tool: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class LimitWarning:
    """A limit that is nearly used up; the fields are those of the contract. `reset_time` None: it never begins anew."""

    kind: str
    subject: str
    threshold_percent: int
    used: int
    limit: int
    reset_time: float | None = None


@dataclass(slots=True, eq=False)
class Invocation:
    """One call as it was asked for, before anything was looked up. Times in seconds, instants monotonic.

    Nobody changes it. It is not frozen because twenty fields would then be set through `object.__setattr__`, which
    costs more than parsing the arguments.
    """

    caller: Caller
    tool: str
    tool_version: str
    arguments: dict[str, Any]
    # The same arguments, canonically encoded (see canonical.py).
    canonical: bytes
    # Answer the value as JSON text, as the arguments came.
    as_json: bool
    trace: CallTrace
    # When the call arrived.
    received: float
    # What the client's own deadline leaves us, None when it has none.
    client_budget: float | None = None
    timeout: float | None = None
    # Attempts in all, when fewer than the tool's own.
    max_attempts: int | None = None
    detach: bool = False
    request_id: str = ""
    session_id: str = ""
    agent_id: str = ""
    task_id: str = ""
    parent_execution_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    # Most that it may cost; None: the server's limit for one call.
    max_cost_micros: int | None = None
    cache_mode: CacheMode = CacheMode.DEFAULT
    # Whether another answer may take the place of a failure; None: as the tool's policy says.
    allow_fallback: bool | None = None
    # The tools in whose place this one is called, the first one first.
    in_place_of: tuple[str, ...] = ()
    # The deadline of the call in which this one is a step, and how many calls stand above it.
    inherited: Deadline | None = None
    depth: int = 0


@dataclass(slots=True, eq=False)
class Execution:
    """What became of a call: the row that stores keep. Wall-clock times in seconds since the epoch."""

    execution_id: str
    caller: Caller
    tool: str
    tool_version: str
    digest: bytes
    server_id: str
    epoch: int
    trace_id: str
    create_time: float
    deadline_time: float
    deadline_source: DeadlineSource
    as_json: bool
    task_id: str
    parent_execution_id: str
    request_id: str
    session_id: str
    agent_id: str
    labels: Mapping[str, str]
    arguments_bytes: int
    state: State = State.QUEUED
    start_time: float | None = None
    end_time: float | None = None
    attempts: int = 0
    # Between acceptance and start, and between start and end; None before there was one.
    queue_seconds: float | None = None
    tool_seconds: float | None = None
    # JSON text of the value; only if SUCCEEDED, and unless it is one of the artifacts, which go with SUCCEEDED too.
    result: bytes | None = None
    artifacts: tuple[Artifact, ...] = ()
    failure: Failure | None = None
    stopped: Stopped = Stopped.UNSPECIFIED
    last_sequence: int = 0
    # What the tool does and where it belongs, kept so that a survivor can judge a row without knowing the tool.
    effect: Effect = Effect.SIDE_EFFECT
    category: str = ""
    # The canonical arguments as they are kept (redacted); None when the tool keeps none.
    arguments: bytes | None = None
    # Random; the audit trail's digests of arguments and result are made with it, so that once it is erased with them
    # nobody can guess what they were. None when nothing of them is kept.
    salt: bytes | None = None
    # What is held for it: its price, or the highest one. 0: it costs nothing, and nobody looks at the rest of these.
    hold_micros: int = 0
    # Most that all calls of its task may cost, held or charged; None: anything. Kept nowhere.
    task_limit_micros: int | None = None
    # Its tool says what it has cost, and what it has said so far; else the price is fixed.
    metered: bool = False
    reported_micros: int = 0
    # What it was charged; set when it is settled.
    cost_micros: int = 0
    # What the tenant has left then; None: not known, or not paid for. Kept nowhere.
    balance_micros: int | None = None
    # Limits that it came near to.
    warnings: tuple[LimitWarning, ...] = ()
    # Where its answer came from; when the tool gave it, if it was kept; and the execution for which it did, if that is
    # another one of the same user.
    source: Source = Source.TOOL
    cached_time: float | None = None
    source_execution_id: str = ""
    # Set if and only if the source is FALLBACK.
    fallback: Fallback | None = None
    # The chain of the audit trail that its entries are in; empty without one. Kept nowhere: it follows from the rest.
    audit_id: str = ""

    def move(self, to: State) -> None:
        """Enter another state. Raises ValueError for a move that the table does not allow."""
        if to not in TRANSITIONS[self.state]:
            raise ValueError(f"execution {self.execution_id} cannot go from {self.state.name} to {to.name}")
        self.state = to

    @property
    def ended(self) -> bool:
        """Whether the state is terminal."""
        return self.state in TERMINAL

    @property
    def held_micros(self) -> int:
        """What is held for it at the moment: also while nobody knows how it ended."""
        return self.hold_micros if not self.ended or self.state is State.OUTCOME_UNKNOWN else 0
