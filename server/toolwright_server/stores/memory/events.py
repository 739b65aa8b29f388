"""Event logs in memory, bounded in bytes: beyond that droppable events go, and output spills to an unnamed file."""

import asyncio
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from toolwright_server.execution.events import DROPPABLE, Event, EventsGone, Happening, Wrote

EVENT_BYTES = 160
BATCH_EVENTS = 256
BATCH_BYTES = 1 << 20
# The list's head is cut off only now and then, so that cutting costs little per event.
_TRIM = 256


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Per execution: bytes kept in memory, and bytes of output kept on disk beyond that."""

    memory_bytes: int
    spill_bytes: int
    folder: Path


class _Spill:
    """Output that left memory, in a file without a name: it cannot outlive the process."""

    __slots__ = ("_file", "events", "size")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed with the log)
        self.events: deque[tuple[Event, int, int]] = deque()
        self.size = 0

    def add(self, event: Event) -> None:
        """Write an output event's chunk; other events stay in memory as they are."""
        if not isinstance(event.what, Wrote):
            self.events.append((event, 0, -1))
            return
        chunk = event.what.chunk
        data = chunk.encode("utf-8", "surrogatepass") if isinstance(chunk, str) else chunk
        self._file.seek(self.size)
        self._file.write(data)
        empty = Wrote(event.what.channel, "" if isinstance(chunk, str) else b"")
        self.events.append((Event(event.sequence, event.time, empty), self.size, len(data)))
        self.size += len(data)

    def read(self, event: Event, offset: int, length: int) -> Event:
        """The event as it was."""
        if length < 0 or not isinstance(event.what, Wrote):
            return event
        self._file.seek(offset)
        data = self._file.read(length)
        chunk = data.decode("utf-8", "surrogatepass") if isinstance(event.what.chunk, str) else data
        return Event(event.sequence, event.time, Wrote(event.what.channel, chunk))

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


class MemoryEventLog:
    """The EventLog of one execution."""

    __slots__ = ("_bounds", "_events", "_first", "_head", "_size", "_spill", "_waiters", "closed", "last_sequence")

    def __init__(self, bounds: LogBounds) -> None:
        self._bounds = bounds
        # Sequences in `_events[_head:]` have no holes: only the oldest event ever leaves.
        self._events: list[Event] = []
        self._head = 0
        self._size = 0
        self._first = 1
        self._spill: _Spill | None = None
        self._waiters: list[asyncio.Future[bool]] = []
        self.last_sequence = 0
        self.closed = False

    @property
    def first_sequence(self) -> int:
        return self._first

    @property
    def size_bytes(self) -> int:
        """Bytes that the log holds in memory."""
        return self._size

    def append(self, time: float, what: Happening) -> None:
        self.last_sequence += 1
        self._events.append(Event(self.last_sequence, time, what))
        self._size += _size(what)
        if self._size > self._bounds.memory_bytes:
            self._shrink()
        if self._waiters:
            self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    def discard(self) -> None:
        """Forget everything."""
        if self._spill is not None:
            self._spill.close()
            self._spill = None
        self._events.clear()
        self._head = self._size = 0
        self._first = self.last_sequence + 1
        self.close()

    def after(self, sequence: int) -> list[Event]:
        if sequence + 1 < self._first:
            raise EventsGone(self._first)
        found = self._spilled_after(sequence) if self._spill is not None else []
        if found or self._head == len(self._events):
            return found
        start = self._head + max(0, sequence + 1 - self._events[self._head].sequence)
        return self._events[start : start + BATCH_EVENTS]

    async def wait(self, sequence: int, seconds: float) -> bool:
        if self.last_sequence > sequence or self.closed:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(seconds, _settle, waiter, False)
        self._waiters.append(waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _settle(waiter, True)

    def _shrink(self) -> None:
        while self._size > self._bounds.memory_bytes and self._head < len(self._events):
            event = self._events[self._head]
            self._head += 1
            self._size -= _size(event.what)
            if not isinstance(event.what, DROPPABLE):
                self._to_disk(event)
        if self._head >= _TRIM:
            del self._events[: self._head]
            self._head = 0

    def _to_disk(self, event: Event) -> None:
        if self._spill is None:
            self._spill = _Spill(self._bounds.folder)
        if self._spill.size + _size(event.what) > self._bounds.spill_bytes:
            # What lies on disk would have a hole behind it: the oldest part goes as a whole.
            self._spill.close()
            self._spill = None
            self._first = event.sequence + 1
            return
        self._spill.add(event)

    def _spilled_after(self, sequence: int) -> list[Event]:
        assert self._spill is not None
        found: list[Event] = []
        size = 0
        for event, offset, length in self._spill.events:
            if event.sequence > sequence:
                found.append(self._spill.read(event, offset, length))
                size += max(length, 0)
                if len(found) == BATCH_EVENTS or size > BATCH_BYTES:
                    break
        return found


class MemoryEventLogs:
    """The EventLogs of this process."""

    def __init__(self, bounds: LogBounds) -> None:
        self._bounds = bounds
        self._logs: dict[str, MemoryEventLog] = {}

    def open(self, execution_id: str) -> MemoryEventLog:
        log = self._logs[execution_id] = MemoryEventLog(self._bounds)
        return log

    def find(self, execution_id: str) -> MemoryEventLog | None:
        return self._logs.get(execution_id)

    def size_bytes(self, execution_id: str) -> int:
        """Bytes that an execution's log holds in memory."""
        log = self._logs.get(execution_id)
        return log.size_bytes if log is not None else 0

    def forget(self, execution_id: str) -> None:
        """Drop a log; its readers are told that the events are gone."""
        log = self._logs.pop(execution_id, None)
        if log is not None:
            log.discard()


def _size(what: Happening) -> int:
    if isinstance(what, Wrote):
        return EVENT_BYTES + len(what.chunk)
    return EVENT_BYTES + len(getattr(what, "message", "") or getattr(what, "text", ""))


def _settle(waiter: "asyncio.Future[bool]", value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)
