"""Who gets the next free worker: a bounded first-in-first-out line, and one before it for those who must not wait long.

Knows nothing of what is handed out. Used on the event loop only.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LineFull(Exception):
    """More calls wait already than may."""


class Line(Generic[T]):
    """`limit` calls may wait. `idle` is what nobody wants at the moment, the most recently used last.

    `give_back` gets what was handed to a call that was cancelled at the same moment.
    """

    def __init__(self, limit: int, give_back: Callable[[T], None]) -> None:
        self._limit = limit
        self._give_back = give_back
        self.idle: deque[T] = deque()
        self._waiting: deque[asyncio.Future[T]] = deque()
        self._urgent: deque[asyncio.Future[T]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait in the ordinary line."""
        return len(self._waiting)

    @property
    def urgent(self) -> int:
        """How many wait before it."""
        return len(self._urgent)

    def take_idle(self) -> T | None:
        """An idle one if there is any; who comes later than others waits behind them."""
        return self.idle.pop() if self.idle and not self._waiting else None

    def join(self, *, urgent: bool = False) -> "asyncio.Future[T]":
        """A place in the line, for `served`. Raises LineFull."""
        line = self._urgent if urgent else self._waiting
        if not urgent and len(line) >= self._limit:
            raise LineFull
        place: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        line.append(place)
        return place

    async def served(self, place: "asyncio.Future[T]") -> T:
        """Wait until it is this place's turn."""
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._give_back(place.result())
            for line in (self._urgent, self._waiting):
                if place in line:
                    line.remove(place)
            raise

    def offer(self, free: T) -> None:
        """Hand it to whoever is first, or keep it."""
        for line in (self._urgent, self._waiting):
            while line:
                place = line.popleft()
                if not place.done():
                    place.set_result(free)
                    return
        self.idle.append(free)

    def refuse(self, error: Callable[[], Exception], *, only_urgent: bool = False) -> None:
        """Let everybody who waits fail, each with an error of its own."""
        for line in (self._urgent,) if only_urgent else (self._urgent, self._waiting):
            while line:
                place = line.popleft()
                if not place.done():
                    place.set_exception(error())
