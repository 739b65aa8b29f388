"""How many executions run at once, whoever waits for them: one more is refused before anything is recorded."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from toolwright_server.catalog.context import AsyncToolContext, ToolCallError
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.attendance import left
from toolwright_server.execution.flight import Stop
from toolwright_server.execution.model import Execution
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import ANONYMOUS

from .corridor import invocation
from .house import PATIENCE, House, WatchedStore

pytestmark = pytest.mark.asyncio

LIMIT = 3


async def forever() -> None:
    await asyncio.Event().wait()


class Slow(WatchedStore):
    """A store in which nothing is kept before `go`."""

    go: asyncio.Event

    async def add(self, execution: Execution, *, awaited: bool = True) -> Execution | None:
        await self.go.wait()
        return await super().add(execution, awaited=awaited)


async def refusal(house: House, name: str, **facts: Any) -> ToolwrightError:
    with pytest.raises(ToolwrightError) as refused:
        await house.begin(name, **facts)
    return refused.value


async def test_executions_that_nobody_waits_for_count(house: House) -> None:
    house.options["running_limit"] = LIMIT
    house.tool(forever, Effect.SIDE_EFFECT)
    for _ in range(LIMIT):
        flight = await house.begin("forever", detach=True)
        left(flight, flight.invocation)
    for detach in (True, False):
        failure = (await refusal(house, "forever", detach=detach)).failure
        assert failure.reason is Reason.CONCURRENCY_LIMITED
        assert failure.metadata == {"limit": str(LIMIT), "outcome": "not_started"}
        assert failure.retry_delay is not None
        assert failure.retry_delay > 0
    assert house.executor.running == LIMIT
    assert len(await house.store.list(ANONYMOUS, ExecutionQuery(1_000))) == LIMIT


async def test_each_that_ends_makes_room_for_one(house: House) -> None:
    house.options["running_limit"] = 1
    house.tool(forever)
    flight = await house.begin("forever")
    await refusal(house, "forever")
    flight.stop(Stop.REQUESTED)
    assert await flight.ended(PATIENCE)
    await house.begin("forever")


async def test_a_call_that_is_refused_for_another_reason_takes_no_room(house: House) -> None:
    house.options["running_limit"] = 1
    house.tool(forever)
    for _ in range(5):
        assert (await refusal(house, "unknown")).failure.reason is Reason.TOOL_NOT_FOUND
    await house.begin("forever")


async def test_a_call_whose_intent_is_being_recorded_counts(house: House) -> None:
    house.options["running_limit"] = LIMIT
    slow = Slow(house.store._bounds, house.logs)  # pyright: ignore[reportPrivateUsage]
    slow.go, slow.added, slow.corrected = asyncio.Event(), asyncio.Event(), asyncio.Event()
    house.store = slow
    house.tool(forever, Effect.SIDE_EFFECT)
    calls = [asyncio.create_task(house.executor.execute(invocation("tests.forever"))) for _ in range(LIMIT + 2)]
    done, _ = await asyncio.wait(calls, timeout=PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
    slow.go.set()
    begun = await asyncio.gather(*calls, return_exceptions=True)
    assert done
    assert sum(isinstance(each, ToolwrightError) for each in begun) == 2
    assert house.executor.running == LIMIT


async def test_a_nested_call_beyond_it_is_refused_at_once_and_the_parent_goes_on(house: House) -> None:
    house.options["running_limit"] = LIMIT

    async def fan_out(context: AsyncToolContext) -> dict[str, int]:
        outcomes = await asyncio.gather(*(context.call("tests.short", {}) for _ in range(10)), return_exceptions=True)
        return dict(Counter(each.reason if isinstance(each, ToolCallError) else "OK" for each in outcomes))

    async def short() -> None: ...

    house.tool(fan_out)
    house.tool(short)
    execution = await house.run("fan_out")
    assert execution.result == b'{"OK":2,"CONCURRENCY_LIMITED":8}'
