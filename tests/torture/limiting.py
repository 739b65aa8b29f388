"""Callers of a shared limit store while its server fails: used by the sample and by the long run."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from tests.shared_limits import opened
from tests.valkeys import Server
from toolwright_server.limits.model import Check, Fail, Kind
from toolwright_server.stores.redis.limits import RedisLimitStore

CALLERS = 64
STORES = 3
TENANTS = 4
PLACES = 10
# A call that waits longer hangs.
HANG_SECONDS = 10.0
MILLISECONDS = 20.0
PLENTY = 10**9


def checks_of(tenant: int, fail: Fail) -> tuple[Check, ...]:
    """One of each kind; only places are scarce."""
    made = (
        Check("window", f"{{t{tenant}}}:w", Kind.WINDOW, PLENTY, "somebody", 3_600.0),
        Check("day", f"{{t{tenant}}}:d", Kind.DAY, PLENTY, "somebody"),
        Check("places", f"{{t{tenant}}}:r", Kind.RUNNING, PLACES, "somebody"),
    )
    return tuple(replace(check, fail=fail) for check in made)


@dataclass
class Tally:
    """What callers saw. By tenant: how many are let in and not given back, and how many run now."""

    counted: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(TENANTS), 0))
    running: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(TENANTS), 0))
    most_running: int = 0
    longest_seconds: float = 0.0
    # The longest that the loop itself stood still.
    lag_seconds: float = 0.0
    calls: int = 0
    refused: int = 0
    unavailable: int = 0

    def text(self) -> str:
        """In one line, for those who read along."""
        return (
            f"{self.calls:,} calls, {self.refused:,} refused, {self.unavailable:,} because the store was gone; at most "
            f"{self.most_running} of {PLACES} places, longest wait {self.longest_seconds * 1_000:.0f} ms, "
            f"the loop itself stood still for up to {self.lag_seconds * 1_000:.0f} ms"
        )


@dataclass
class Crowd:
    """Callers of several stores, which come until they are told to stop."""

    stores: Sequence[RedisLimitStore]
    fail: Fail
    chance: random.Random
    tally: Tally = field(default_factory=Tally)
    stopping: bool = False

    async def caller(self, number: int) -> None:
        """One call after the other: some run for a moment, some end at once, some are given back or give up."""
        while not self.stopping:
            tenant = self.chance.randrange(TENANTS)
            store = self.stores[number % len(self.stores)]
            self.tally.calls += 1
            await self.call(store, tenant, f"{number}-{self.tally.calls}")

    async def watch(self) -> None:
        """How late the loop is at most."""
        while not self.stopping:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            self.tally.lag_seconds = max(self.tally.lag_seconds, time.monotonic() - began)

    async def call(self, store: RedisLimitStore, tenant: int, token: str) -> None:
        checks, tally = checks_of(tenant, self.fail), self.tally
        began = time.monotonic()
        async with asyncio.timeout(HANG_SECONDS):
            taking = await store.take(checks, token)
        tally.longest_seconds = max(tally.longest_seconds, time.monotonic() - began)
        if taking.refused is not None:
            tally.refused += 1
            tally.unavailable += taking.unavailable
            await asyncio.sleep(0.001 * self.chance.random())
            return
        tally.running[tenant] += 1
        tally.most_running = max(tally.most_running, tally.running[tenant])
        tally.counted[tenant] += 1
        if self.chance.random() < 0.5:
            await asyncio.sleep(0.005 * self.chance.random())
        tally.running[tenant] -= 1
        async with asyncio.timeout(HANG_SECONDS):
            if self.chance.random() < 0.3:
                tally.counted[tenant] -= 1
                await store.give_back(checks, token)
            else:
                await store.release(checks, token)


@asynccontextmanager
async def crowd(server: Server, fail: Fail, seed: int) -> AsyncGenerator[Crowd]:
    """Callers that come now, and have all gone at the end."""
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(opened(server, name=f"s{n}", milliseconds=MILLISECONDS))
            for n in range(STORES)
        ]
        made = Crowd(stores, fail, random.Random(seed))
        callers = [asyncio.create_task(made.caller(number)) for number in range(CALLERS)]
        callers.append(asyncio.create_task(made.watch()))
        try:
            yield made
            made.stopping = True
            await asyncio.wait_for(asyncio.gather(*callers), 2 * HANG_SECONDS)
        finally:
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)


async def killed(server: Server, seconds: float) -> None:
    """Gone, with everything that it knew, and back."""
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


async def frozen(server: Server, seconds: float) -> None:
    """There, and silent."""
    server.freeze()
    try:
        await asyncio.sleep(seconds)
    finally:
        server.thaw()


async def cut(server: Server, seconds: float) -> None:
    """Every connection broken, again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.to_thread(server.run, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.02)


Fault = Callable[[Server, float], Coroutine[None, None, None]]
FAULTS: Sequence[Fault] = (killed, frozen, cut)


async def weather(server: Server, fault: Fault, fail: Fail, *, faults: int, seed: int) -> Tally:
    """So many faults under load; then what is counted is what ran, and nothing is held."""
    server.run("FLUSHALL")
    chance = random.Random(seed)
    async with crowd(server, fail, seed) as load:
        for _ in range(faults):
            await asyncio.sleep(chance.uniform(0.05, 0.4))
            await fault(server, chance.choice((0.01, 0.1, 0.5, 1.5)))
            await settled(load)
        load.stopping = True
        for store in load.stores:
            await until_idle(store, fail, load.tally, loses_memory=fault is killed)
    return load.tally


async def settled(load: Crowd) -> None:
    """Every store has found its server again, by itself."""
    end = time.monotonic() + HANG_SECONDS
    while not all(store.is_up for store in load.stores):
        assert time.monotonic() < end, "a store did not come back"
        await asyncio.sleep(0.01)


async def until_idle(store: RedisLimitStore, fail: Fail, tally: Tally, *, loses_memory: bool) -> None:
    """What is undone in the background is undone; leases would hold on for longer than this waits."""
    end = time.monotonic() + HANG_SECONDS
    while True:
        wrong = [each async for each in differences(store, fail, tally, loses_memory=loses_memory)]
        if not wrong:
            return
        assert time.monotonic() < end, "\n".join(wrong)
        await asyncio.sleep(0.01)


async def differences(store: RedisLimitStore, fail: Fail, tally: Tally, *, loses_memory: bool) -> AsyncGenerator[str]:
    """A line for each counter that is not what it should be."""
    for tenant in range(TENANTS):
        window, day, places = [reading.used for reading in await store.read(checks_of(tenant, fail))]
        if places or tally.running[tenant]:
            yield f"tenant {tenant}: {places} places are held, {tally.running[tenant]} calls run"
        # Rules that let in without the store count less than what ran.
        exact = fail is Fail.CLOSED and not loses_memory
        if exact and not window == day == tally.counted[tenant]:
            yield f"tenant {tenant}: the window has {window}, the day {day}, let in were {tally.counted[tenant]}"
        if not exact and max(window, day) > tally.counted[tenant]:
            yield f"tenant {tenant}: the window has {window}, the day {day}, let in were only {tally.counted[tenant]}"
