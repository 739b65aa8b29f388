"""Event logs in memory, bounded in bytes: beyond that droppable events go, and output spills to an unnamed file."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from sys import getsizeof

from toolwright_server.execution.events import DROPPABLE, Event, EventsGone, Happening, Wrote
from toolwright_server.stores.memory.spill import Spill, encode
from toolwright_server.stores.memory.spill_room import SpillRoom

EVENT_BYTES = 160
BATCH_EVENTS = 256
BATCH_BYTES = 1 << 20
# The list's head is cut off only now and then, so that cutting costs little per event.
_TRIM = 256
_GONE = Event(0, 0.0, Wrote("", ""))
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Per execution: bytes kept in memory, and bytes of output kept on disk beyond that.

    Of all executions together: bytes on disk, and files, each of which is an open descriptor.
    """

    memory_bytes: int
    spill_bytes: int
    folder: Path
    total_spill_bytes: int = 1 << 30
    spill_files: int = 256


class MemoryEventLog:
    """The EventLog of one execution."""

    __slots__ = (
        "_bounds",
        "_disk_failed",
        "_events",
        "_first",
        "_head",
        "_room",
        "_size",
        "_spill",
        "_taken",
        "_waiters",
        "closed",
        "last_sequence",
    )

    def __init__(self, bounds: LogBounds, room: SpillRoom) -> None:
        self._bounds = bounds
        self._room = room
        # Sequences in `_events[_head:]` have no holes: only the oldest event ever leaves.
        self._events: list[Event] = []
        self._head = 0
        self._size = 0
        self._first = 1
        self._spill: Spill | None = None
        # Bytes of the room; none without a file.
        self._taken = 0
        self._disk_failed = False
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
        if self._spill is not None:
            self._room.ended(self)
        self._wake()

    def discard(self) -> None:
        """Forget everything."""
        self.forget_spill()
        self._events.clear()
        self._head = self._size = 0
        self._first = self.last_sequence + 1
        self.close()

    def after(self, sequence: int) -> list[Event]:
        if sequence + 1 < self._first:
            raise EventsGone(self._first)
        found = self._spill.after(sequence, BATCH_EVENTS, BATCH_BYTES) if self._spill is not None else []
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
            # Its place stays until the next trim, its content must not.
            self._events[self._head] = _GONE
            self._head += 1
            self._size -= _size(event.what)
            if not isinstance(event.what, DROPPABLE):
                self._to_disk(event)
        if self._head >= _TRIM:
            del self._events[: self._head]
            self._head = 0

    def _to_disk(self, event: Event) -> None:
        record = encode(event)
        if not self._has_room(len(record)):
            self._lost(event)
            return
        try:
            if self._spill is None:
                self._spill = Spill(self._bounds.folder)
            self._spill.add(event.sequence, record)
        except OSError as error:
            # The tool must not fail, and its record must not hang, because a disk is full.
            _logger.warning("events cannot be kept in %s and are forgotten: %s", self._bounds.folder, error)
            self._disk_failed = True
            self._lost(event)

    def _has_room(self, size: int) -> bool:
        """Take so many bytes more. Where that is too much, the older part goes: what lies on disk has no holes."""
        if self._disk_failed or size > self._bounds.spill_bytes:
            return False
        if self._taken and (self._taken + size > self._bounds.spill_bytes or not self._room.take(size, files=0)):
            self.forget_spill()
        if not self._taken and not self._room.take(size, files=1):
            return False
        self._taken += size
        return True

    def _lost(self, event: Event) -> None:
        self.forget_spill()
        self._first = event.sequence + 1

    def forget_spill(self) -> None:
        """Give back the disk and the descriptor; whoever asks for what was there is told where the rest begins."""
        if self._spill is not None:
            self._first = self._spill.last_sequence + 1
            self._spill.close()
            self._spill = None
        if self._taken:
            self._room.free(self, self._taken)
            self._taken = 0


class MemoryEventLogs:
    """The EventLogs of this process."""

    def __init__(self, bounds: LogBounds) -> None:
        self._bounds = bounds
        self._logs: dict[str, MemoryEventLog] = {}
        self.room = SpillRoom(bounds.total_spill_bytes, bounds.spill_files)

    def open(self, execution_id: str) -> MemoryEventLog:
        log = self._logs[execution_id] = MemoryEventLog(self._bounds, self.room)
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
    # getsizeof knows, without looking, whether a text takes one, two or four bytes a character.
    if isinstance(what, Wrote):
        return EVENT_BYTES + getsizeof(what.chunk)
    return EVENT_BYTES + getsizeof(getattr(what, "message", "") or getattr(what, "text", ""))


def _settle(waiter: "asyncio.Future[bool]", value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)
