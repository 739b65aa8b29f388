"""What happens to an execution, as typed events. Heartbeats are kept from users: they only show that a stream lives."""

from dataclasses import dataclass, field
from datetime import datetime

from toolwright.v1 import common_pb2
from toolwright_client.model import Execution, Failure, Notice, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. Snapshots carry the number of the newest event, the others their own, from 1 on."""

    execution_id: str
    sequence: int
    time: datetime | None
    raw: common_pb2.ExecutionEvent = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Event):
    """The execution as it is now. First in every stream; again after a re-attach that missed events."""

    execution: Execution
    missed_events: int = 0
    """How many events were no longer kept when the stream re-attached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange(Event):
    """The execution moved from one state to another."""

    before: State
    now: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """How far the tool is; `total` is absent when it is not known."""

    progress: float
    total: float | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Event):
    """A piece of output: text, or bytes."""

    channel: str
    chunk: str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Event):
    """A line that the tool logged, at level `debug`, `info`, `warning` or `error`."""

    level: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something the caller should know."""

    warning: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """An attempt, numbered from 1, failed; another one follows after so many seconds."""

    attempt: int
    failure: Failure
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The execution ended, whatever the outcome. The last event of every stream."""

    execution: Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecognised(Event):
    """An event that this client is too old to know; `raw` has it."""
