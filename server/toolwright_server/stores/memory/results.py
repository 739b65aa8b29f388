"""Answers in memory, bounded in number and bytes: those that were not asked for the longest go first."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from toolwright_server.execution.recall.key import Key
from toolwright_server.execution.recall.store import Kept

# What an entry takes beside its answer, measured with tracemalloc on CPython 3.11, rounded up.
ENTRY_BYTES: Final = 768


@dataclass(frozen=True, slots=True)
class ResultBounds:
    """How much is kept. `size_bytes` counts what entries take as well."""

    entries: int
    size_bytes: int


class MemoryResultStore:
    """An ImmediateResultStore; `clock` is monotonic."""

    def __init__(self, bounds: ResultBounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = bounds
        self._clock = clock
        # When each is over. The one that was asked for last is the last one.
        self._entries: OrderedDict[Key, tuple[Kept, float]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: Key) -> Kept | None:
        return self.get_now(key)

    def get_now(self, key: Key) -> Kept | None:
        found = self._entries.get(key)
        if found is None:
            return None
        kept, end = found
        if self._clock() >= end:
            self._forget(key)
            return None
        self._entries.move_to_end(key)
        return kept

    def put(self, key: Key, kept: Kept, ttl_seconds: float) -> None:
        self._forget(key)
        size = _size(kept)
        if size > self._bounds.size_bytes:
            return
        self._entries[key] = kept, self._clock() + ttl_seconds
        self.size_bytes += size
        while len(self._entries) > self._bounds.entries or self.size_bytes > self._bounds.size_bytes:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: Key) -> None:
        found = self._entries.pop(key, None)
        if found is not None:
            self.size_bytes -= _size(found[0])


def _size(kept: Kept) -> int:
    return ENTRY_BYTES + len(kept.result)
