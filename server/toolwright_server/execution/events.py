"""What happens to an execution, and the log that keeps it for readers who come late or come back."""

from dataclasses import dataclass
from typing import Protocol

from toolwright_server.errors import Failure
from toolwright_server.execution.model import TRANSITIONS, Execution, LimitWarning, Source, State


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The execution went from one state to another."""

    before: State
    after: State


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far the tool is. Droppable."""

    done: float
    total: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """A piece of output."""

    channel: str
    chunk: str | bytes


@dataclass(frozen=True, slots=True)
class Logged:
    """A log line of the tool. Droppable."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Retried:
    """An attempt (numbered from 1) failed, and another one follows after so many seconds."""

    attempt: int
    failure: Failure
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Warned:
    """A limit is nearly used up."""

    warning: LimitWarning


Happening = StateChanged | Progressed | Wrote | Logged | Retried | Warned
DROPPABLE = (Progressed, Logged)


@dataclass(slots=True)
class Event:
    """A happening with its number (from 1) and its wall-clock time in seconds."""

    sequence: int
    time: float
    what: Happening


# Made once for every move that there is.
CHANGES = {(before, to): StateChanged(before, to) for before, after in TRANSITIONS.items() for to in after}

# States whose beginning a row tells for good; who enters another one needs a log.
TOLD_BY_ROW = frozenset({State.RUNNING, *(state for state, after in TRANSITIONS.items() if not after)})


def state_changes(row: Execution) -> list[Event]:
    """The changes of state that a row tells of: all of its events, unless its tool reported any or more states came."""
    events: list[Event] = []
    if row.start_time is not None:
        events.append(Event(1, row.start_time, CHANGES[State.QUEUED, State.RUNNING]))
    if row.ended and row.end_time is not None:
        started = row.start_time is not None or (row.state is State.SUCCEEDED and row.source is Source.TOOL)
        before = State.RUNNING if started else State.QUEUED
        # Whoever settled it for a dead server knows of no start, and counts it as started all the same.
        change = CHANGES.get((before, row.state)) or CHANGES[State.RUNNING, row.state]
        events.append(Event(len(events) + 1, row.end_time, change))
    return events


class EventLog(Protocol):
    """The events of one execution: appended on the event loop, read by cursors that never hold up the writer."""

    @property
    def last_sequence(self) -> int:
        """Number of the newest event; 0 when there is none."""
        ...

    @property
    def first_sequence(self) -> int:
        """Number from which on every undroppable event is still kept."""
        ...

    def append(self, time: float, what: Happening) -> None:
        """Add an event. Never waits."""
        ...

    def close(self) -> None:
        """No event will follow: readers that have seen all are told so."""
        ...

    def after(self, sequence: int) -> list[Event]:
        """The kept events that follow `sequence`, oldest first, a bounded number at once.

        Raises EventsGone when an undroppable one that follows is no longer kept.
        """
        ...

    async def wait(self, sequence: int, seconds: float) -> bool:
        """Wait for events after `sequence` or the log's end (True), at most `seconds` (False)."""
        ...

    @property
    def closed(self) -> bool:
        """Whether no event will follow."""
        ...


class EventLogs(Protocol):
    """The logs of the executions that have one: most have nothing to tell but what their rows say."""

    def open(self, execution_id: str) -> EventLog:
        """A new log."""
        ...

    def find(self, execution_id: str) -> EventLog | None:
        """The log of an execution, if it has one that is still kept."""
        ...


class Retold:
    """The closed EventLog of an execution that ended without one: what its row tells."""

    closed = True
    first_sequence = 1

    def __init__(self, row: Execution) -> None:
        self._events = state_changes(row)

    @property
    def last_sequence(self) -> int:
        return len(self._events)

    def append(self, time: float, what: Happening) -> None:
        raise ValueError(f"the execution has ended: {what} at {time} came too late")

    def close(self) -> None:
        pass

    def after(self, sequence: int) -> list[Event]:
        return self._events[sequence:]

    async def wait(self, sequence: int, seconds: float) -> bool:
        del sequence, seconds
        return True


class EventsGone(Exception):
    """An undroppable event is no longer kept; `first_sequence` is the first that is."""

    def __init__(self, first_sequence: int) -> None:
        super().__init__(f"events before {first_sequence} are no longer kept")
        self.first_sequence = first_sequence
