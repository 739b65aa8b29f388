"""A database that is gone for a while, with everything that is there for that: breaker, spill file, their end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contracts.executions import OWNER
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.model import Execution, State
from toolwright_server.stores.sql.breaker import Breaker
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.recovery import SqlRecovery
from toolwright_server.stores.sql.spill import OutcomeSpill

from .written import locked, opened, row, writing

pytestmark = pytest.mark.asyncio


@dataclass
class House:
    """A store as a server has it. `now` is what the breaker sees."""

    database: Database
    store: SqlExecutionStore
    spill: OutcomeSpill
    recovery: SqlRecovery
    now: float = 0.0

    def outage(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.database)

    async def drain(self) -> None:
        await self.spill.drain(self.recovery.restore, self.store.forget)


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    async with opened(tmp_path, 0.2) as database, writing(database) as writer:
        spill = OutcomeSpill.open(tmp_path, 65_536)
        breaker = Breaker(first_seconds=1.0, clock=lambda: made.now)
        store = SqlExecutionStore(database, writer, spill=spill, breaker=breaker)
        made = House(database, store, spill, SqlRecovery(database, writer, audited=False))
        yield made
        spill.close()


def ended(execution: Execution) -> Execution:
    execution.move(State.RUNNING)
    execution.move(State.SUCCEEDED)
    execution.result, execution.end_time = b"42", 1_001.0
    return execution


async def refusal(house: House, execution: Execution) -> float | None:
    with pytest.raises(ToolwrightError) as refused:
        await house.store.add(execution)
    failure = refused.value.failure
    assert (failure.reason, failure.metadata) == (Reason.STORE_UNAVAILABLE, {"outcome": "not_started"})
    return failure.retry_delay


async def test_calls_are_refused_and_outcomes_written_down_until_it_is_back(house: House) -> None:
    running = [row(each) for each in "abc"]
    for each in running:
        await house.store.add(each)
    with house.outage():
        await refusal(house, row("d"))
        # From now on nobody waits: the time of the next try is known.
        assert await refusal(house, row("e")) == 1.0
        await asyncio.gather(*(house.store.settle(ended(each)) for each in running))
        assert house.spill.waiting == 3
        # Meanwhile they are answered as they are.
        found = await house.store.get(OWNER, "a")
        assert found is not None
        assert found.state is State.SUCCEEDED
        with pytest.raises(ToolwrightError, match="cannot be used now"):
            await house.drain()
        assert house.spill.waiting == 3
    house.now = 2.0
    assert await house.store.add(row("f")) is None
    await house.drain()
    assert (house.spill.waiting, len(house.store)) == (0, 1)
    kept = await house.recovery.ended(["a", "b", "c"])
    assert [(each.state, each.result) for each in kept] == [(State.SUCCEEDED, b"42")] * 3


async def test_who_tries_for_all_opens_the_way(house: House) -> None:
    with house.outage():
        await refusal(house, row("a"))
    assert await refusal(house, row("b")) == 1.0
    house.now = 1.0
    assert await house.store.add(row("c")) is None
    assert await house.store.add(row("d")) is None
