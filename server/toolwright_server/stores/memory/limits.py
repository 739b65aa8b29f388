"""Counters of limits in this process: exact sliding windows, calendar quotas and running calls.

Never waits and never fails. What it counts ends with the process; several processes need a shared store.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from toolwright_server.limits.model import Check, Kind, Reading, Taking
from toolwright_server.stores.memory.limit_counters import Calendar, Counter, Quota, Readings, Running, Window

# Keys that are looked at for each one that is added: more than one, so that idle ones go faster than new ones come.
_LOOKED_AT = 2


class MemoryLimitStore:
    """A LimitStore, whose verbs also come without a coroutine, under the same names with `_now`.

    `clock` (monotonic) measures windows, `wall` (seconds since the epoch) says which day it is. Every taking must be
    ended by `release` or `give_back`. A counter that says no more than a new one is forgotten while new ones come.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._calendar = Calendar(wall)
        self._counters: dict[str, Counter] = {}
        # All keys, in the order in which they are looked at.
        self._rotation: deque[str] = deque()
        self._to_look_at = 0
        # By token: when it took and from what; until its call has ended.
        self._taken: dict[str, tuple[float, list[Counter]]] = {}

    def __len__(self) -> int:
        """How many counters there are."""
        return len(self._counters)

    def take_now(self, checks: Sequence[Check], token: str) -> Taking:
        """As `take`."""
        if token in self._taken:
            return Taking(self.read_now(checks))
        now = self._clock()
        known = self._counters
        counters = [known.get(check.key) or self._add(check) for check in checks]
        for counter, check in zip(counters, checks, strict=True):
            if counter.wait(check.limit, now) is not None:
                taking = self._tight(checks, counters, now, token)
                break
        else:
            used = [counter.take(now, token) for counter in counters]
            self._taken[token] = (now, counters)
            taking = Taking(Readings(checks, counters, used, now), used=used)
        if self._to_look_at:
            self._forget_idle(now)
        return taking

    def _tight(self, checks: Sequence[Check], counters: list[Counter], now: float, token: str) -> Taking:
        """Not every counter has room for one more: refused, or over a limit that is in shadow."""
        waits = [counter.wait(check.limit, now) for counter, check in zip(counters, checks, strict=True)]
        before = [counter.reading(check, now) for counter, check in zip(counters, checks, strict=True)]
        full = [reading for reading, wait in zip(before, waits, strict=True) if wait is not None]
        refusing = [reading for reading in full if not reading.check.shadow]
        if refusing:
            return Taking(before, max(refusing, key=_longest))
        fitting = [counter for counter, wait in zip(counters, waits, strict=True) if wait is None]
        for counter in fitting:
            counter.take(now, token)
        self._taken[token] = (now, fitting)
        after = [counter.reading(check, now) for counter, check in zip(counters, checks, strict=True)]
        return Taking(after, over=full)

    def give_back_now(self, checks: Sequence[Check], token: str) -> None:
        """As `give_back`."""
        now, counters = self._taken.pop(token, (0.0, ()))
        for counter in counters:
            counter.give_back(now, token)

    def release_now(self, checks: Sequence[Check], token: str) -> None:
        """As `release`."""
        _, counters = self._taken.pop(token, (0.0, ()))
        for counter in counters:
            counter.release(token)

    def read_now(self, checks: Sequence[Check]) -> Sequence[Reading]:
        """As `read`."""
        now = self._clock()
        return [(self._counters.get(check.key) or self._made(check)).reading(check, now) for check in checks]

    async def take(self, checks: Sequence[Check], token: str) -> Taking:
        return self.take_now(checks, token)

    async def give_back(self, checks: Sequence[Check], token: str) -> None:
        self.give_back_now(checks, token)

    async def release(self, checks: Sequence[Check], token: str) -> None:
        self.release_now(checks, token)

    async def renew(self, checks: Sequence[Check], tokens: Sequence[str]) -> None:
        """Nothing: places are held until they are released, or end with the process."""

    async def read(self, checks: Sequence[Check]) -> Sequence[Reading]:
        return self.read_now(checks)

    def _made(self, check: Check) -> Counter:
        match check.kind:
            case Kind.WINDOW:
                return Window(check.window_seconds)
            case Kind.RUNNING:
                return Running()
            case _:
                return Quota(self._calendar, check.kind)

    def _add(self, check: Check) -> Counter:
        counter = self._counters[check.key] = self._made(check)
        self._rotation.append(check.key)
        self._to_look_at += _LOOKED_AT
        return counter

    def _forget_idle(self, now: float) -> None:
        """Look at a few keys, in turns: no call ever pays for all of them. Never while a taking holds counters."""
        for _ in range(min(self._to_look_at, len(self._rotation))):
            key = self._rotation.popleft()
            if self._counters[key].idle(now):
                del self._counters[key]
            else:
                self._rotation.append(key)
        self._to_look_at = 0


def _longest(reading: Reading) -> float:
    return reading.reset_seconds
