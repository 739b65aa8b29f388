"""The one time budget of a call. Queueing, attempts and nested calls all draw on it; it can be paused."""

import asyncio
import time
from collections.abc import Callable
from enum import IntEnum
from math import inf

# Our error must arrive before the client's own bare one: C-core clients overstate their deadline by up to 3.93 %.
MARGIN_RATIO = 0.04
MARGIN_SECONDS = 0.020


class DeadlineSource(IntEnum):
    """Which limit was the shortest; numbers are those of the contract."""

    CLIENT = 1
    REQUEST = 2
    TOOL = 3
    CATEGORY = 4
    SERVER = 5


def client_budget(remaining: float) -> float:
    """Seconds that we may use of the `remaining` seconds that the client gave; not positive when there are none."""
    return remaining - (MARGIN_RATIO * remaining + MARGIN_SECONDS)


class Deadline:
    """An instant on the monotonic clock, what set it, and the limit in seconds that it came from."""

    __slots__ = ("_callback", "_clock", "_late", "_paused", "_timer", "at", "limit_seconds", "source")

    def __init__(
        self, at: float, source: DeadlineSource, limit_seconds: float, clock: Callable[[], float] | None = None
    ) -> None:
        self._clock = clock or time.monotonic
        self.at = at
        self.source = source
        self.limit_seconds = limit_seconds
        self._paused: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._callback: Callable[[], None] | None = None
        self._late = 0.0

    @classmethod
    def shortest(cls, now: float, *limits: tuple[float | None, DeadlineSource]) -> "Deadline":
        """The shortest of the limits (seconds from now; None: no limit). At least one must be given."""
        seconds, source = inf, None
        for limit, its_source in limits:
            if limit is not None and limit < seconds:
                seconds, source = limit, its_source
        if source is None:
            raise ValueError("a deadline needs at least one limit")
        return cls(now + seconds, source, seconds)

    def remaining(self) -> float:
        """Seconds left, never negative; stands still while paused."""
        left = self.at - (self._clock() if self._paused is None else self._paused)
        return left if left > 0 else 0.0

    def arm(
        self,
        callback: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None = None,
        late_seconds: float = 0.0,
    ) -> None:
        """Call `callback` once, on the loop (or else the running one), when the time is up, or that much later."""
        self._callback, self._late = callback, late_seconds
        if self._paused is None:
            self._timer = (loop or asyncio.get_running_loop()).call_later(self.remaining() + late_seconds, callback)

    def disarm(self) -> None:
        """Forget the callback."""
        self._callback = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause(self) -> None:
        """Stop the clock until `resume`; twice is once."""
        if self._paused is None:
            self._paused = self._clock()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def resume(self) -> None:
        """Let the clock run again: the deadline moves by the length of the pause."""
        if self._paused is None:
            return
        self.at += self._clock() - self._paused
        self._paused = None
        if self._callback is not None:
            self.arm(self._callback, late_seconds=self._late)
