"""Calls that wait for one of the places that running calls hold: who is next, and who goes when there are too many.

Knows nothing of limits: whoever is woken asks again, and stays in line when it is refused again. Used on the event loop
only.
"""

import asyncio
import random
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterable

# Event loops know no endless timers.
_LONGEST_SECONDS = 86_400.0


class Shed(Exception):
    """More calls wait than may, and this one is the newest of the tenant that has most of them."""


class Place:
    """One call's place in line. `leave` in any case, whatever became of it."""

    def __init__(self, line: "Line", tenant: str, key: str, number: int) -> None:
        self.tenant = tenant
        self.key = key
        self.number = number
        self.woken = False
        # It was woken while it did not wait: it had not begun to, or was still asking.
        self.again = False
        self._line = line
        self._is_shed = False
        self._turn: asyncio.Future[bool] | None = None

    async def turn(self, seconds: float) -> bool:
        """Wait until it may be this call's turn; False when that takes longer than `seconds`. Raises Shed."""
        if self._is_shed:
            raise Shed
        if seconds <= 0:
            return False
        if self.again:
            self.again = False
            return True
        self.woken = False
        loop = asyncio.get_running_loop()
        turn = self._turn = loop.create_future()
        timer = loop.call_later(min(seconds, _LONGEST_SECONDS), self._end, False)
        try:
            return await turn
        finally:
            timer.cancel()

    def wake(self) -> None:
        """It may be this call's turn, now or when it asks for it."""
        self.woken = True
        if self._turn is None or self._turn.done():
            self.again = True
        self._end(True)

    def shed(self) -> None:
        """Somebody else needs the place in line more."""
        self._is_shed = True
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(Shed())

    def wait_for(self, key: str) -> None:
        """It is another counter that is full: wait there, before all who came later."""
        if key != self.key and not self._is_shed:
            self._line.move(self, key)

    def leave(self, *, served: bool = False) -> None:
        """Go, and let the next one look; `served`: with what it waited for, so that it is another tenant's turn."""
        self._line.leave(self, served=served)

    def _end(self, is_turn: bool) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(is_turn)


class Line:
    """At most `limit` calls wait. For each counter tenants take turns, and each tenant's calls are first in, first out.

    `poll_seconds`: how often the first in line look by themselves, where places also come free elsewhere.
    """

    def __init__(
        self, limit: int, poll_seconds: float | None = None, jitter: Callable[[], float] = random.random
    ) -> None:
        self._limit = limit
        self._poll_seconds = poll_seconds
        self._jitter = jitter
        self._number = 0
        # By what they wait for and by tenant, in the order of their numbers.
        self._queues: dict[str, OrderedDict[str, list[Place]]] = {}
        # By tenant, in the order in which they came.
        self._tenants: dict[str, dict[Place, None]] = {}
        self._poll: asyncio.TimerHandle | None = None
        self.waiting = 0

    def holds(self, keys: Iterable[str]) -> str | None:
        """The first of `keys` for which somebody waits: who comes later waits behind."""
        for key in keys:
            if key in self._queues:
                return key
        return None

    def join(self, tenant: str, key: str) -> Place:
        """A place at the end of the line. Raises Shed when the line is full, and no tenant's share larger."""
        if self.waiting >= self._limit:
            self._make_room(tenant)
        self._number += 1
        place = Place(self, tenant, key, self._number)
        self._tenants.setdefault(tenant, {})[place] = None
        self._enqueue(place)
        self.waiting += 1
        self._keep_polling()
        return place

    def move(self, place: Place, key: str) -> None:
        """Let a place wait for something else, with the number it has."""
        left = place.key
        self._dequeue(place)
        place.key = key
        self._enqueue(place)
        # What it was woken for is still free.
        self.wake(left)

    def leave(self, place: Place, *, served: bool = False) -> None:
        """Take a place out, and wake the next one that waits for the same."""
        of_tenant = self._tenants.get(place.tenant, {})
        if place not in of_tenant:
            return
        del of_tenant[place]
        if not of_tenant:
            del self._tenants[place.tenant]
        self.waiting -= 1
        if served:
            self._queues[place.key].move_to_end(place.tenant)
        self._dequeue(place)
        self.wake(place.key)

    def wake(self, key: str) -> None:
        """A place of a running call came free: let the next in line look."""
        queue = self._queues.get(key)
        if queue is None:
            return
        # Of the tenants whose calls look already, those with fewest; of these the one that was served longest ago.
        places = min(queue.values(), key=_looking)
        for place in places:
            if not place.woken:
                place.wake()
                return
        places[0].wake()

    def wake_all(self) -> None:
        """Let the first for each counter look: limits may have changed."""
        for key in tuple(self._queues):
            self.wake(key)

    def _make_room(self, tenant: str) -> None:
        """The tenant that has most calls in line loses its newest one; the newcomer goes if it would have as many."""
        most = max(self._tenants, key=lambda each: len(self._tenants[each]), default=tenant)
        if len(self._tenants.get(most, ())) <= len(self._tenants.get(tenant, ())) + 1:
            raise Shed
        newest = next(reversed(self._tenants[most]))
        newest.shed()
        self.leave(newest)

    def _enqueue(self, place: Place) -> None:
        of_tenant = self._queues.setdefault(place.key, OrderedDict()).setdefault(place.tenant, [])
        insort(of_tenant, place, key=_number)

    def _dequeue(self, place: Place) -> None:
        queue = self._queues[place.key]
        queue[place.tenant].remove(place)
        if not queue[place.tenant]:
            del queue[place.tenant]
        if not queue:
            del self._queues[place.key]

    def _keep_polling(self) -> None:
        if self._poll_seconds is None or self._poll is not None:
            return
        # Between half and one and a half of it: servers that began together do not ask together.
        delay = self._poll_seconds * (0.5 + self._jitter())
        self._poll = asyncio.get_running_loop().call_later(delay, self._polled)

    def _polled(self) -> None:
        self._poll = None
        if self.waiting:
            self.wake_all()
            self._keep_polling()


def _number(place: Place) -> int:
    return place.number


def _looking(places: list[Place]) -> tuple[bool, int]:
    """How many of them were woken; after all others those of which none is left to be."""
    woken = sum(place.woken for place in places)
    return woken == len(places), woken
