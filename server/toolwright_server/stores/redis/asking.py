"""Commands on their way to the store, what they learn, and how long that may take. Never sends anything."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

# What came of it: the answer, or None when nobody knows.
Late = Callable[[Any], None]

# Ticks in the time that a silent store is given: the loop looks at its socket as often at least. A round trip behind
# another one takes six turns of the loop.
_TICKS: Final = 16


class Ask:
    """One command. Without a `future` nobody waits for its answer. It may be sent as often as it takes, unless `once`:
    then it is not sent again after a connection over which it may have arrived.

    `late` is told the answer when it comes after the one who waited has left, or None when it is lost; without a
    `future`, any answer.
    """

    __slots__ = ("command", "deadline", "future", "in_doubt", "late", "once", "patience")

    def __init__(
        self,
        command: bytes,
        deadline: float,
        future: "asyncio.Future[Any] | None" = None,
        late: Late | None = None,
        *,
        once: bool = False,
    ) -> None:
        self.command = command
        # On the loop's clock: when it is of no use any more.
        self.deadline = deadline
        # On the two clocks of Patience: when whoever waits for it stops.
        self.patience = (0.0, 0.0)
        self.future = future
        self.late = late
        self.once = once
        # It was sent over a connection that broke before the answer.
        self.in_doubt = False

    @property
    def is_wanted(self) -> bool:
        """Whether it is still worth sending."""
        return self.future is None or not self.future.done()

    def answered(self, answer: Any) -> None:
        """The store has answered."""
        if self.future is None:
            if self.late is not None:
                self.late(answer)
        elif not self.future.done():
            self.future.set_result(answer)
        elif self.late is not None:
            self.late(answer)

    def give_up(self) -> None:
        """Whoever waits decides without the store."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def lose(self) -> None:
        """Nobody will learn what came of it."""
        self.give_up()
        if self.late is not None and self.in_doubt:
            self.late(None)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the store may take."""

    # What a call waits at most for a store that says nothing.
    answer_seconds: float
    # Without an answer for so long the store is called slow, and nobody waits for it any more. Also what a call waits
    # at most for a store that is busy with the answers to others.
    slow_seconds: float
    # Without an answer for so long a connection is given up; also how long one may take to be made.
    dead_seconds: float = 1.0
    # Between tries to connect: the first pause and the longest.
    first_pause_seconds: float = 0.05
    longest_pause_seconds: float = 1.0

    @classmethod
    def of(cls, answer_seconds: float) -> "Timings":
        """With the others in proportion."""
        return cls(answer_seconds, slow_seconds=5 * answer_seconds, dead_seconds=max(1.0, 20 * answer_seconds))


class Patience:
    """Two clocks of how long the store has kept us waiting. They stand still while the loop does something else.

    They go on by one tick at most each time the loop comes round: a burst of calls that keeps the loop busy for longer
    than a store may take is not held against the store, whose answers nobody has read yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timings: Timings, judge: Callable[["Patience"], bool]) -> None:
        """`judge` looks who has waited for too long, at each tick, and says whether anybody is left."""
        self._loop = loop
        self._timings = timings
        self._judge = judge
        self._seconds = timings.answer_seconds / _TICKS
        self._timer: asyncio.TimerHandle | None = None
        self._heard = False
        # Seconds in which somebody waited; of these, the ones in which the store gave no answer at all.
        self.waited = 0.0
        self.silent = 0.0

    def begin(self) -> tuple[float, float]:
        """Somebody waits from now on. When to stop, on the two clocks."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._tick)
        return self.silent + self._timings.answer_seconds, self.waited + self._timings.slow_seconds

    def is_over(self, ask: Ask) -> bool:
        """Whether whoever waits for it has waited long enough."""
        silent, waited = ask.patience
        return self.silent >= silent or self.waited >= waited

    def heard(self) -> None:
        """The store has answered somebody."""
        self._heard = True

    def end(self) -> None:
        """Stop the clocks."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.waited += self._seconds
        if not self._heard:
            self.silent += self._seconds
        self._heard = False
        self._timer = self._loop.call_later(self._seconds, self._tick) if self._judge(self) else None
