"""Events that left memory, in a file without a name: it cannot outlive the process. Never decides what leaves."""

import os
import struct
import tempfile
from bisect import bisect_right
from dataclasses import astuple
from pathlib import Path
from typing import IO, Final

import orjson

from toolwright_server.execution.events import Event, Retried, StateChanged, Warned, Wrote
from toolwright_server.execution.model import LimitWarning, State
from toolwright_server.stores import failures

# Sequence, time, kind, bytes of the channel, bytes of the data; channel and data follow.
_HEAD: Final = struct.Struct("<QdBHI")
_TEXT, _BYTES, _STATES, _RETRY, _WARNING = range(5)
# A place to begin reading for every so many bytes of the file: what stays in memory does not grow with the events.
_MARK_BYTES = 1 << 15
_BLOCK_BYTES = 1 << 17


class Spill:
    """Undroppable events in the order of their sequence. Raises OSError when the disk refuses."""

    __slots__ = ("_file", "_marks", "_offsets", "last_sequence", "size_bytes")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed with the log)
        # The first sequence behind each of the offsets.
        self._marks: list[int] = []
        self._offsets: list[int] = []
        self.last_sequence = 0
        self.size_bytes = 0

    def add(self, sequence: int, record: bytes) -> None:
        """Write an event that was encoded."""
        # One call may write less than asked when the disk is full; the next one then raises.
        written = 0
        while written < len(record):
            written += os.pwrite(self._file.fileno(), record[written:], self.size_bytes + written)
        if not self._offsets or self.size_bytes - self._offsets[-1] >= _MARK_BYTES:
            self._marks.append(sequence)
            self._offsets.append(self.size_bytes)
        self.size_bytes += len(record)
        self.last_sequence = sequence

    def after(self, sequence: int, count: int, size_bytes: int) -> list[Event]:
        """At most `count` events after `sequence`, and no more once their records exceed `size_bytes`."""
        found: list[Event] = []
        if sequence >= self.last_sequence:
            return found
        offset = self._offsets[max(0, bisect_right(self._marks, sequence + 1) - 1)]
        block = b""
        position = size = 0
        while len(found) < count and size <= size_bytes and offset < self.size_bytes:
            need = _record_bytes(block, position)
            if position + need > len(block):
                block, position = os.pread(self._file.fileno(), max(need, _BLOCK_BYTES), offset), 0
                need = _record_bytes(block, 0)
                if need > len(block):
                    block = os.pread(self._file.fileno(), need, offset)
            event = decode(block, position)
            if event.sequence > sequence:
                found.append(event)
                size += need
            position += need
            offset += need
        return found

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


def encode(event: Event) -> bytes:
    """The record of an output event, a change of state, a retry or a warning."""
    what = event.what
    if isinstance(what, StateChanged):
        kind, channel, data = _STATES, b"", bytes((what.before.value, what.after.value))
    elif isinstance(what, Retried):
        kept = {**failures.plain(what.failure), "attempt": what.attempt, "delay": what.delay_seconds}
        kind, channel, data = _RETRY, b"", orjson.dumps(kept)
    elif isinstance(what, Warned):
        kind, channel, data = _WARNING, b"", orjson.dumps(astuple(what.warning))
    else:
        assert isinstance(what, Wrote), "droppable events are dropped, not spilled"
        channel = what.channel.encode("utf-8", "surrogatepass")
        kind = _TEXT if isinstance(what.chunk, str) else _BYTES
        data = what.chunk.encode("utf-8", "surrogatepass") if isinstance(what.chunk, str) else what.chunk
    return _HEAD.pack(event.sequence, event.time, kind, len(channel), len(data)) + channel + data


def decode(block: bytes, position: int) -> Event:
    """The event whose record begins at `position`."""
    sequence, time, kind, channel_bytes, data_bytes = _HEAD.unpack_from(block, position)
    begin = position + _HEAD.size
    middle = begin + channel_bytes
    data = block[middle : middle + data_bytes]
    if kind == _STATES:
        return Event(sequence, time, StateChanged(State(data[0]), State(data[1])))
    if kind == _RETRY:
        kept = orjson.loads(data)
        return Event(sequence, time, Retried(kept["attempt"], failures.read(kept), kept["delay"]))
    if kind == _WARNING:
        return Event(sequence, time, Warned(LimitWarning(*orjson.loads(data))))
    channel = block[begin:middle].decode("utf-8", "surrogatepass")
    return Event(sequence, time, Wrote(channel, data.decode("utf-8", "surrogatepass") if kind == _TEXT else data))


def _record_bytes(block: bytes, position: int) -> int:
    if position + _HEAD.size > len(block):
        return _HEAD.size
    _, _, _, channel, data = _HEAD.unpack_from(block, position)
    return _HEAD.size + channel + data
