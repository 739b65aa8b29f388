"""A tool that shares its answers, and stays where it is until it is let go."""

import asyncio
from typing import Any

from toolwright_server.catalog.model import CachePolicy
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Execution, Invocation

from .corridor import invocation, somebody
from .house import PATIENCE, House

KEPT = CachePolicy(60)
JOINED_ONLY = CachePolicy(0)
ADA, BOB = somebody(user="ada"), somebody(user="bob")


class Gate:
    """`tests.held(n)`: how often it was called in all. `open`: it answers at once. `error`: it raises that instead."""

    def __init__(self, house: House, cache: CachePolicy | None = JOINED_ONLY, **options: Any) -> None:
        self.runs = 0
        self.stopped = 0
        self.error: Exception | None = None
        self.running, self.go = asyncio.Event(), asyncio.Event()

        async def held(n: int = 0) -> int:
            del n
            self.runs += 1
            number = self.runs
            self.running.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
            if self.error is not None:
                raise self.error
            return number

        house.tool(held, cache=cache, **options)

    async def until(self, runs: int) -> None:
        """Wait until it was called so often."""
        async with asyncio.timeout(PATIENCE):
            while self.runs < runs:
                self.running.clear()
                await self.running.wait()


def call(n: int = 0, **facts: Any) -> Invocation:
    return invocation("tests.held", {"n": n}, **{"caller": ADA, **facts})


async def begun(house: House, asked: Invocation) -> Flight:
    flight = await asyncio.wait_for(house.executor.execute(asked), PATIENCE)
    assert isinstance(flight, Flight)
    return flight


async def told(flight: Flight, asked: Invocation | None = None) -> Execution:
    return await asyncio.wait_for(outlast(flight, asked or flight.invocation), PATIENCE)


async def ended(house: House, asked: Invocation) -> Execution:
    """A call from its beginning to its end."""
    return await told(await begun(house, asked), asked)


async def party(house: House, gate: Gate, size: int = 3, **facts: Any) -> list[Flight]:
    """So many calls of the same, of which the first one runs and the others have joined it."""
    flights = [await begun(house, call(**facts))]
    await gate.until(1)
    flights += [await begun(house, call(**facts)) for _ in range(size - 1)]
    # Each has its turn, and waits.
    await asyncio.sleep(0)
    return flights
