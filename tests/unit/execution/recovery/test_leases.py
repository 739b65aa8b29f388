import asyncio
from collections.abc import Sequence

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.recovery.leases import Lease, LeaseKeeper
from toolwright_server.stores.memory.leases import MemoryLeases

pytestmark = pytest.mark.asyncio
SECONDS = 15.0
PATIENCE = 5.0


class World:
    """A store and the clock that all see, which goes on when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = FailingLeases(lambda: self.now)

    def keeper(self, name: str, epoch: int = 1) -> "Kept":
        return Kept(self, Lease(name, epoch))


class FailingLeases(MemoryLeases):
    """Leases in a store that may be gone."""

    gone = False

    async def renew(self, lease: Lease, seconds: float) -> bool:
        self._check()
        return await super().renew(lease, seconds)

    async def expired(self, own: Lease) -> Sequence[Lease]:
        self._check()
        return await super().expired(own)

    async def release(self, lease: Lease) -> None:
        self._check()
        await super().release(lease)

    def _check(self) -> None:
        if self.gone:
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "gone")


class Kept:
    """A keeper whose ticks are told, with what it did."""

    def __init__(self, world: World, own: Lease) -> None:
        self.world = world
        self.own = own
        self.recovered = self.anew = 0
        self.defect: Exception | None = None
        self.losses = 0
        self.lost = asyncio.Event()
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self._go = asyncio.Semaphore(0)
        self.keeper = LeaseKeeper(
            world.store,
            own,
            SECONDS,
            recover=self._recover,
            lost=self._lose,
            clock=lambda: world.now,
            pause=self._pause,
        )

    async def _recover(self, anew: bool) -> None:
        self.recovered += 1
        self.anew += anew
        if self.defect is not None:
            raise self.defect

    def _lose(self) -> None:
        self.losses += 1
        self.lost.set()

    async def _pause(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)
        await self._go.acquire()

    async def paused(self) -> float:
        """How long it pauses now."""
        return await asyncio.wait_for(self.pauses.get(), PATIENCE)

    def go_on(self) -> None:
        self._go.release()

    async def ticks(self, count: int, step: float = SECONDS / 3) -> None:
        for _ in range(count):
            self.world.now += step
            await self.keeper.tick()


async def test_a_start_registers_and_recovers_at_once() -> None:
    one = World().keeper("one")
    await one.keeper.start()
    assert one.world.store.holds(one.own)
    assert (one.recovered, one.anew) == (1, 1)
    await one.keeper.close()


async def test_a_lease_is_renewed_three_times_in_its_length() -> None:
    one = World().keeper("one")
    await one.keeper.start()
    assert await one.paused() == SECONDS / 3
    one.world.now += SECONDS - 1
    one.go_on()
    await one.paused()
    one.world.now += SECONDS - 1
    assert one.keeper.held
    one.world.now += 1
    assert not one.keeper.held
    await one.keeper.close()


async def test_a_closed_keeper_gives_its_lease_back() -> None:
    one = World().keeper("one")
    await one.keeper.start()
    await one.keeper.close()
    assert not one.world.store.holds(one.own)


async def test_a_lease_that_cannot_be_given_back_runs_out_by_itself() -> None:
    one = World().keeper("one")
    await one.keeper.start()
    one.world.store.gone = True
    await one.keeper.close()
    assert one.world.store.holds(one.own)


async def test_a_survivor_ends_the_lease_of_who_does_not_renew_it() -> None:
    world = World()
    one, two = world.keeper("one"), world.keeper("two")
    await one.keeper.start()
    await two.keeper.start()
    await one.ticks(3)
    assert world.store.holds(two.own), "it had not run out yet"
    await one.ticks(1)
    assert not world.store.holds(two.own)
    assert one.keeper.ended == 1
    # At its start, and now that one has died; not at the ticks between.
    assert (one.recovered, one.anew) == (3, 2)
    for each in (one, two):
        await each.keeper.close()


async def test_who_has_just_started_leaves_others_time_to_renew() -> None:
    world = World()
    old = world.keeper("old")
    await old.keeper.start()
    world.now += 10 * SECONDS
    young = world.keeper("young")
    await young.keeper.start()
    await young.ticks(2)
    assert world.store.holds(old.own)
    await young.ticks(1)
    assert not world.store.holds(old.own)
    for each in (old, young):
        await each.keeper.close()


async def test_after_an_outage_of_the_store_nobody_is_taken_for_dead_too_soon() -> None:
    world = World()
    one, two = world.keeper("one"), world.keeper("two")
    for each in (one, two):
        await each.keeper.start()
        await each.ticks(1)
    world.store.gone = True
    await one.ticks(10)
    assert not one.keeper.held
    world.store.gone = False
    # One is the first to reach it again; two, as late as one was, has the length of a lease for it.
    await one.ticks(2)
    assert world.store.holds(two.own)
    await two.ticks(1)
    await one.ticks(2)
    assert world.store.holds(two.own)
    assert (one.losses, two.losses) == (0, 0)
    for each in (one, two):
        await each.keeper.close()


async def test_who_stood_still_itself_takes_nobody_for_dead_who_may_have_as_well() -> None:
    world = World()
    one, two = world.keeper("one"), world.keeper("two")
    for each in (one, two):
        await each.keeper.start()
    await one.ticks(1, step=100 * SECONDS)
    assert world.store.holds(two.own)
    await two.keeper.tick()
    await one.ticks(2)
    assert world.store.holds(two.own)
    await one.ticks(2)
    assert not world.store.holds(two.own)
    for each in (one, two):
        await each.keeper.close()


async def test_a_failed_renewal_is_tried_again_sooner() -> None:
    one = World().keeper("one")
    await one.keeper.start()
    await one.paused()
    one.world.store.gone = True
    one.go_on()
    assert await one.paused() == SECONDS / 10
    one.world.store.gone = False
    one.go_on()
    assert await one.paused() == SECONDS / 3
    await one.keeper.close()


async def test_a_lost_lease_is_told_once_and_never_taken_back() -> None:
    world = World()
    one, two = world.keeper("one"), world.keeper("two")
    await one.keeper.start()
    await two.keeper.start()
    await one.ticks(4)
    await two.paused()
    two.go_on()
    await asyncio.wait_for(two.lost.wait(), PATIENCE)
    assert two.keeper.is_lost
    assert not two.keeper.held
    await two.keeper.close()
    assert two.losses == 1
    assert not world.store.holds(two.own)
    await one.keeper.close()


async def test_the_next_process_of_the_same_name_ends_the_one_before() -> None:
    world = World()
    before, after = world.keeper("one", 1), world.keeper("one", 2)
    await before.keeper.start()
    await after.keeper.start()
    await before.keeper.tick()
    assert before.losses == 1
    await before.keeper.close()
    assert world.store.holds(after.own)
    await after.keeper.close()


async def test_a_defect_in_recovery_does_not_end_the_renewals(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    one = world.keeper("one")
    await one.keeper.start()
    one.defect = ValueError("a defect")
    await one.paused()
    for _ in range(3):
        world.now += SECONDS / 3
        one.go_on()
        assert await one.paused() == SECONDS / 3
    assert "a look at the leases failed" in caplog.text
    world.now += 1
    one.go_on()
    await one.paused()
    assert one.keeper.held
    await one.keeper.close()
