"""What comes back from a server, as frozen dataclasses. Durations are seconds, times are aware and in UTC.

Each keeps the message it was read from in `raw`. Nothing here reads or writes messages: see `wire`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import grpc

from toolwright.v1 import common_pb2, tool_catalog_pb2

NOT_STARTED = "not_started"
UNKNOWN = "unknown"


class State(StrEnum):
    """Where an execution stands. `UNSPECIFIED` stands for a state that this client is too old to know."""

    UNSPECIFIED = "UNSPECIFIED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    PAUSED = "PAUSED"
    AWAITING_INPUT = "AWAITING_INPUT"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    UNDONE = "UNDONE"

    @property
    def terminal(self) -> bool:
        """Whether an execution in this state has ended."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        State.SUCCEEDED,
        State.FAILED,
        State.TIMED_OUT,
        State.CANCELLED,
        State.REJECTED,
        State.OUTCOME_UNKNOWN,
        State.UNDONE,
    }
)


class Effect(StrEnum):
    """What a tool does to the world. One that is not known counts as `SIDE_EFFECT`."""

    READ_ONLY = "READ_ONLY"
    IDEMPOTENT = "IDEMPOTENT"
    SIDE_EFFECT = "SIDE_EFFECT"

    @property
    def repeatable(self) -> bool:
        """Whether calling twice is the same as calling once."""
        return self is not Effect.SIDE_EFFECT


class DeadlineSource(StrEnum):
    """Which of the time limits was the shortest and became the deadline."""

    UNSPECIFIED = "UNSPECIFIED"
    CLIENT = "CLIENT"
    REQUEST = "REQUEST"
    TOOL = "TOOL"
    CATEGORY = "CATEGORY"
    SERVER = "SERVER"


class Stopped(StrEnum):
    """Whether the work was seen to end."""

    UNSPECIFIED = "UNSPECIFIED"
    YES = "YES"
    NO = "NO"
    UNKNOWN = "UNKNOWN"


class Source(StrEnum):
    """Where an answer came from: the tool itself, a kept answer, the same call, which ran already, or what the tool's
    policy has in its place.
    """

    UNSPECIFIED = "UNSPECIFIED"
    TOOL = "TOOL"
    CACHE = "CACHE"
    JOINED = "JOINED"
    FALLBACK = "FALLBACK"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with the arguments: a path such as `tags[2]` (empty: the whole object), and what."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, in the same shape whether it came as a status or inside an execution."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    """In UPPER_SNAKE_CASE; empty when what answered was no Toolwright server."""
    user_message: str = ""
    suggested_action: str = ""
    retryable: bool = False
    retry_delay: float | None = None
    """Seconds; absent: not known, or not retryable."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    violations: tuple[Violation, ...] = ()
    admin_message: str = ""
    """For operators who look at the execution: where in the tool it happened, and what the exception said."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution took: seconds, and micros, of which a credit has a million.

    `tool_duration` is absent when the tool was never started, `balance_micros` (what the tenant has left) when the call
    cost nothing or is looked at later. `held_micros` is what is set aside while nobody knows what it will cost.
    """

    tool_duration: float | None = None
    queue_duration: float | None = None
    attempts: int = 0
    cost_micros: int = 0
    balance_micros: int | None = None
    held_micros: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the caller should know that is not an error."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a tool wrote as a part of its result, described; `read_artifact` and `save_artifact` get it."""

    artifact_id: str
    name: str
    """What the tool calls it. Not a path."""
    media_type: str
    size_bytes: int
    sha256: str
    preview: str = ""
    """The first lines, if it is text; empty in lists."""
    expire_time: datetime | None = None
    """From then on it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One call of one tool, and what became of it."""

    execution_id: str
    state: State
    tool: str
    tool_version: str
    value: Any = None
    """What the tool answered, decoded from JSON. None unless `state` is SUCCEEDED, and in lists."""
    artifacts: tuple[Artifact, ...] = ()
    value_artifact: Artifact | None = None
    """The one that holds the value as JSON text, which was too large to be answered: `value` is None then."""
    error: Failure | None = None
    """In every terminal state but SUCCEEDED; in a batch also where it says why there is no value, or no end, yet."""
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    deadline: datetime | None = None
    deadline_source: DeadlineSource = DeadlineSource.UNSPECIFIED
    usage: Usage = Usage()
    last_sequence: int = 0
    request_id: str = ""
    task_id: str = ""
    parent_execution_id: str = ""
    tenant_id: str = ""
    user_id: str = ""
    agent_id: str = ""
    session_id: str = ""
    server_id: str = ""
    trace_id: str = ""
    audit_id: str = ""
    """The chain of the audit trail that holds what was asked and what became of it; empty without an audit trail."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    stopped: Stopped = Stopped.UNSPECIFIED
    warnings: tuple[Notice, ...] = ()
    source: Source = Source.UNSPECIFIED
    """Where the value came from; unspecified where there is none."""
    cached_time: datetime | None = None
    """When the tool gave it, if it was kept."""
    source_execution_id: str = ""
    """The execution of the same user whose answer this is, if it is not its own."""
    fallback_tool: str = ""
    """The tool that answered in the place of the one that was called; empty also for a fixed value."""
    replaced_error: Failure | None = None
    """Why the tool itself did not answer, if something else did in its place."""
    raw: common_pb2.Execution = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Anything that can be called. The schemas are JSON Schema 2020-12; an absent output schema allows anything."""

    name: str
    version: str
    display_name: str
    description: str
    category: str
    effect: Effect
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None
    timeout: float | None
    """Seconds that a call may take when it names no `tool_timeout`."""
    enabled: bool
    labels: Mapping[str, str]
    raw: tool_catalog_pb2.Tool = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Validation:
    """Whether a tool would accept the arguments, and what is wrong with them if not."""

    valid: bool
    violations: tuple[Violation, ...] = ()
