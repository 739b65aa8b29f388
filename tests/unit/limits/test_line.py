"""Who is next, who is shed, and that no wake is ever lost."""

import asyncio

import pytest

from toolwright_server.limits.line import Line, Place, Shed

from .house import LONG, settled

pytestmark = pytest.mark.asyncio


class Waiting:
    """A call in line: takes a place when there is one, holds it, and notes in `served` that it got it."""

    def __init__(self, line: Line, tenant: str, name: str, free: dict[str, int], served: list[str]) -> None:
        self.name = name
        self.place: Place | None = None
        self._line = line
        self._tenant = tenant
        self._free = free
        self._served = served
        self.task = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        place = self.place = self._line.join(self._tenant, "key")
        try:
            while await place.turn(LONG):
                if self._free["key"] > 0:
                    self._free["key"] -= 1
                    self._served.append(self.name)
                    place.leave(served=True)
                    return
        finally:
            place.leave()


class Room:
    """One counter, a line before it, and calls that come and go."""

    def __init__(self, limit: int = 100) -> None:
        self.line = Line(limit)
        self.free = {"key": 0}
        self.served: list[str] = []
        self.calls: dict[str, Waiting] = {}

    async def come(self, *names: str) -> None:
        """Calls named `tenant.number`."""
        for name in names:
            self.calls[name] = Waiting(self.line, name.partition(".")[0], name, self.free, self.served)
            await asyncio.sleep(0)

    async def frees(self, count: int = 1) -> None:
        for _ in range(count):
            self.free["key"] += 1
            self.line.wake("key")
        await settled()

    async def end(self) -> None:
        for call in self.calls.values():
            call.task.cancel()
        await asyncio.gather(*(call.task for call in self.calls.values()), return_exceptions=True)
        assert self.line.waiting == 0
        assert self.line.holds(["key", "other"]) is None


async def test_one_tenants_calls_are_first_in_first_out() -> None:
    room = Room()
    await room.come("a.1", "a.2", "a.3")
    await room.frees(2)
    assert room.served == ["a.1", "a.2"]
    await room.frees()
    assert room.served == ["a.1", "a.2", "a.3"]
    await room.end()


async def test_tenants_take_turns_however_many_calls_one_of_them_has() -> None:
    room = Room()
    await room.come(*(f"loud.{number}" for number in range(20)), "quiet.1", "quiet.2", "other.1")
    for _ in range(6):
        await room.frees()
    assert room.served == ["loud.0", "quiet.1", "other.1", "loud.1", "quiet.2", "loud.2"]
    await room.end()


async def test_tenants_take_turns_also_when_many_places_come_free_at_once() -> None:
    room = Room()
    await room.come(*(f"loud.{number}" for number in range(20)), "quiet.1", "quiet.2")
    await room.frees(4)
    assert sorted(room.served) == ["loud.0", "loud.1", "quiet.1", "quiet.2"]
    await room.end()


async def test_a_full_line_sheds_the_newcomer_of_the_tenant_that_fills_it() -> None:
    room = Room(limit=3)
    await room.come("loud.1", "loud.2", "loud.3", "loud.4")
    with pytest.raises(Shed):
        await room.calls["loud.4"].task
    assert room.line.waiting == 3
    await room.end()


async def test_a_full_line_makes_room_for_a_quiet_tenant_by_shedding_the_loud_ones_newest() -> None:
    room = Room(limit=3)
    await room.come("loud.1", "loud.2", "loud.3", "quiet.1")
    with pytest.raises(Shed):
        await room.calls["loud.3"].task
    await room.frees(2)
    assert sorted(room.served) == ["loud.1", "quiet.1"]
    await room.end()


async def test_with_equal_shares_the_newest_is_shed() -> None:
    room = Room(limit=2)
    await room.come("a.1", "b.1", "a.2", "c.1")
    assert {name for name, call in room.calls.items() if not call.task.done()} == {"a.1", "b.1"}
    for shed in ("a.2", "c.1"):
        with pytest.raises(Shed):
            await room.calls[shed].task
    await room.end()


async def test_nobody_waits_in_a_line_of_no_length() -> None:
    with pytest.raises(Shed):
        Line(0).join("a", "key")


async def test_a_call_that_is_cancelled_leaves_and_its_wake_goes_to_the_next() -> None:
    room = Room()
    await room.come("a.1", "a.2", "a.3")
    room.calls["a.2"].task.cancel()
    # Woken and cancelled in the same moment.
    room.free["key"] += 1
    room.line.wake("key")
    room.calls["a.1"].task.cancel()
    await settled()
    assert room.served == ["a.3"]
    await room.end()


async def test_whose_time_is_up_is_told_so_and_leaves() -> None:
    line = Line(1)
    place = line.join("a", "key")
    assert await place.turn(0.001) is False
    assert await place.turn(0) is False
    place.leave()
    place.leave()
    assert line.waiting == 0


async def test_a_wait_without_an_end_is_one() -> None:
    line = Line(1)
    place = line.join("a", "key")
    turn = asyncio.create_task(place.turn(float("inf")))
    await settled()
    line.wake("key")
    assert await turn is True
    place.leave()


async def test_who_is_woken_while_it_asks_asks_again() -> None:
    line = Line(1)
    place = line.join("a", "key")
    turn = asyncio.create_task(place.turn(LONG))
    await settled()
    line.wake("key")
    assert await turn is True
    # It is asking a store far away; meanwhile another place came free.
    line.wake("key")
    assert await place.turn(LONG) is True
    later = asyncio.create_task(place.turn(LONG))
    await settled()
    assert not later.done()
    line.wake("key")
    assert await later is True
    place.leave()


async def test_who_is_shed_while_it_asks_is_told_when_it_would_wait_on() -> None:
    line = Line(2)
    first, second = line.join("loud", "key"), line.join("loud", "key")
    turn = asyncio.create_task(second.turn(LONG))
    await settled()
    second.wake()
    assert await turn is True
    line.join("quiet", "key")
    second.wait_for("other")
    with pytest.raises(Shed):
        await second.turn(LONG)
    second.leave()
    assert line.waiting == 2
    assert line.holds(["other"]) is None
    first.leave()


async def test_who_waits_for_something_else_keeps_its_number_and_lets_the_next_look() -> None:
    line = Line(10)
    first, second, third = line.join("a", "key"), line.join("a", "key"), line.join("a", "other")
    turns = [asyncio.create_task(place.turn(LONG)) for place in (first, second, third)]
    await settled()
    line.wake("key")
    await settled()
    assert [turn.done() for turn in turns] == [True, False, False]
    # What it was woken for is free, but it lacks another: the second one may have the first.
    first.wait_for("other")
    await settled()
    assert [turn.done() for turn in turns] == [True, True, False]
    again = asyncio.create_task(first.turn(LONG))
    await settled()
    line.wake("other")
    await settled()
    assert again.done()
    assert not turns[2].done()
    for place in (first, second, third):
        place.leave()
    await turns[2]


async def test_those_behind_a_place_that_is_full_do_not_keep_others_waiting() -> None:
    line = Line(10)
    line.join("a", "full")
    other = line.join("a", "free")
    turn = asyncio.create_task(other.turn(LONG))
    await settled()
    line.wake("free")
    assert await turn is True
    assert line.holds(["nothing", "full"]) == "full"
    assert line.holds(["nothing"]) is None


async def test_the_first_for_each_counter_look_by_themselves_where_places_come_free_elsewhere() -> None:
    line = Line(10, poll_seconds=0.002, jitter=lambda: 0.5)
    first, second = line.join("a", "key"), line.join("b", "other")
    for _ in range(3):
        assert await asyncio.wait_for(first.turn(LONG), LONG) is True
        assert await asyncio.wait_for(second.turn(LONG), LONG) is True
    first.leave()
    second.leave()


async def test_when_limits_change_the_first_for_each_counter_look() -> None:
    line = Line(10)
    places = [line.join("a", "key"), line.join("a", "key"), line.join("a", "other")]
    turns = [asyncio.create_task(place.turn(LONG)) for place in places]
    await settled()
    line.wake_all()
    await settled()
    assert [turn.done() for turn in turns] == [True, False, True]
    for place in places:
        place.leave()
    await asyncio.gather(*turns)
