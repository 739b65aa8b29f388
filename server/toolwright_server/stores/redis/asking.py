"""Commands on their way to the store, and what they learn. Never sends anything."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# What came of it: the answer, or None when nobody knows.
Late = Callable[[Any], None]


class Ask:
    """One command. Without a `future` nobody waits for its answer, and it may be sent as often as it takes.

    `late` is told the answer when it comes after the one who waited has left, or None when it is lost.
    """

    __slots__ = ("command", "deadline", "future", "in_doubt", "late")

    def __init__(
        self,
        command: bytes,
        deadline: float,
        future: "asyncio.Future[Any] | None" = None,
        late: Late | None = None,
    ) -> None:
        self.command = command
        # On the loop's clock. Of one that nobody waits for: when it is of no use any more.
        self.deadline = deadline
        self.future = future
        self.late = late
        # It was sent over a connection that broke before the answer.
        self.in_doubt = False

    @property
    def is_wanted(self) -> bool:
        """Whether it is still worth sending."""
        return self.future is None or not self.future.done()

    def answered(self, answer: Any) -> None:
        """The store has answered."""
        if self.future is None:
            return
        if not self.future.done():
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

    # What a call waits at most.
    answer_seconds: float
    # Without an answer for so long the store is called slow, and nobody waits for it any more.
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
