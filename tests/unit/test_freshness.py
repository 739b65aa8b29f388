"""Looking for changes: at once when told, and what follows when the store does not answer."""

import asyncio

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.freshness import BLIND_SECONDS, Freshness

pytestmark = pytest.mark.asyncio
PATIENCE = 10.0


class Place:
    """What is looked at: counts looks, and answers as `away` and `broken` say."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looks = self.blind = 0
        self.away = self.broken = False
        self.looked: asyncio.Queue[int] = asyncio.Queue()
        self.freshness = Freshness("a place", self.look, self.is_blind, lambda: self.now)

    async def look(self) -> None:
        self.looks += 1
        self.looked.put_nowait(self.looks)
        if self.away:
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "away")
        if self.broken:
            raise ValueError("a defect")

    def is_blind(self) -> None:
        self.blind += 1


async def test_who_is_told_looks_at_once_and_once_for_all_that_it_was_told() -> None:
    place = Place()
    watching = asyncio.create_task(place.freshness.watch(interval_seconds=3_600.0))
    async with asyncio.timeout(PATIENCE):
        assert await place.looked.get() == 1
        for _ in range(3):
            place.freshness.wake()
        assert await place.looked.get() == 2
        place.freshness.wake()
        assert await place.looked.get() == 3
    watching.cancel()
    assert place.looks == 3


async def test_who_is_told_nothing_looks_all_the_same() -> None:
    place = Place()
    watching = asyncio.create_task(place.freshness.watch(interval_seconds=0.001))
    async with asyncio.timeout(PATIENCE):
        while await place.looked.get() < 3:
            pass
    watching.cancel()


async def test_what_is_told_during_a_look_is_looked_at_again() -> None:
    place = Place()
    looking, go = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        place.looks += 1
        looking.set()
        await go.wait()
        place.looked.put_nowait(place.looks)

    freshness = Freshness("a place", slow, place.is_blind)
    watching = asyncio.create_task(freshness.watch(interval_seconds=3_600.0))
    async with asyncio.timeout(PATIENCE):
        await looking.wait()
        freshness.wake()
        go.set()
        assert [await place.looked.get() for _ in range(2)] == [1, 2]
    watching.cancel()


async def test_a_store_that_is_away_for_a_minute_makes_blind_until_it_answers() -> None:
    place = Place()
    place.away = True
    place.now += BLIND_SECONDS
    await place.freshness.look()
    assert (place.blind, place.freshness.age) == (0, BLIND_SECONDS)
    place.now += 1
    await place.freshness.look()
    assert place.blind == 1
    place.away = False
    await place.freshness.look()
    assert (place.blind, place.freshness.age) == (1, 0.0)


async def test_a_defect_makes_blind_and_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.broken = True
    watching = asyncio.create_task(place.freshness.watch(interval_seconds=0.001))
    async with asyncio.timeout(PATIENCE):
        while await place.looked.get() < 3:
            pass
    watching.cancel()
    assert place.blind >= 2
    assert "a place could not be looked up" in caplog.text
