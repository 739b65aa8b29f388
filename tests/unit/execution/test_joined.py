"""Several callers of one call under one request id: what they hear, and what their leaving means."""

import asyncio
from typing import Any

import pytest

from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.attendance import left, outlast
from toolwright_server.execution.elsewhere.distant import Distant
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Execution, Invocation, State
from toolwright_server.execution.store import RecordFailed

from .corridor import invocation
from .house import PATIENCE, House

pytestmark = pytest.mark.asyncio


class Gate:
    """A tool `tests.held` that says when it runs, and answers how often it was called once it is let go."""

    def __init__(self, house: House, effect: Effect) -> None:
        self.runs = 0
        self.running, self.go = asyncio.Event(), asyncio.Event()

        async def held() -> int:
            self.runs += 1
            self.running.set()
            await self.go.wait()
            return self.runs

        house.tool(held, effect)


def call(**facts: Any) -> Invocation:
    return invocation("tests.held", request_id="r", **facts)


async def begun(house: House, asked: Invocation) -> Flight:
    flight = await house.executor.execute(asked)
    assert isinstance(flight, Flight)
    return flight


async def told(flight: Flight | Distant, asked: Invocation) -> Execution:
    return await asyncio.wait_for(outlast(flight, asked), PATIENCE)


async def test_all_are_answered_by_one_run_and_later_ones_again(house: House) -> None:
    gate = Gate(house, Effect.SIDE_EFFECT)
    asked = [call() for _ in range(3)]
    flights = [await begun(house, each) for each in asked]
    gate.go.set()
    answers = [await told(flight, each) for flight, each in zip(flights, asked, strict=True)]
    again = call()
    answers.append(await told(await house.executor.execute(again), again))
    assert {(row.execution_id, row.result) for row in answers} == {(answers[0].execution_id, b"1")}
    assert gate.runs == 1


async def test_an_outcome_that_is_not_in_the_record_yet_is_told_to_nobody(house: House) -> None:
    gate = Gate(house, Effect.SIDE_EFFECT)
    settling, fails = asyncio.Event(), asyncio.Event()

    async def settle(execution: Execution, *, awaited: bool = True) -> None:
        settling.set()
        await fails.wait()
        raise RecordFailed(execution.execution_id)

    house.store.settle = settle
    first, second = call(), call()
    flight = await begun(house, first)
    gate.go.set()
    await asyncio.wait_for(settling.wait(), PATIENCE)
    assert flight.execution.state is State.SUCCEEDED
    joined = await begun(house, second)
    fails.set()
    for each in (first, second):
        row = await told(joined, each)
        assert (row.state, row.result) == (State.OUTCOME_UNKNOWN, None)
        assert row.failure is not None
        assert row.failure.reason is Reason.RECORD_FAILED


async def test_another_call_under_the_request_id_is_refused_while_the_first_runs(house: House) -> None:
    gate = Gate(house, Effect.SIDE_EFFECT)

    async def other() -> None: ...

    house.tool(other)
    await begun(house, call())
    await asyncio.wait_for(gate.running.wait(), PATIENCE)
    with pytest.raises(ToolwrightError) as refused:
        await house.executor.execute(invocation("tests.other", request_id="r"))
    assert refused.value.failure.reason is Reason.REQUEST_ID_REUSED


async def test_one_that_leaves_stops_nothing_while_another_waits(house: House) -> None:
    gate = Gate(house, Effect.SIDE_EFFECT)
    first, second = call(), call()
    flight = await begun(house, first)
    await begun(house, second)
    assert not left(flight, first)
    gate.go.set()
    assert (await told(flight, second)).state is State.SUCCEEDED


async def test_one_whose_time_is_up_counts_as_gone(house: House) -> None:
    gate = Gate(house, Effect.SIDE_EFFECT)
    first, hurried = call(), call(client_budget=0.05)
    flight = await begun(house, first)
    await begun(house, hurried)
    await asyncio.wait_for(gate.running.wait(), PATIENCE)
    with pytest.raises(ToolwrightError) as gone:
        await told(flight, hurried)
    assert gone.value.failure.reason is Reason.CLIENT_DEADLINE
    assert left(flight, first)
    await asyncio.wait_for(flight.ended(None), PATIENCE)
    assert flight.execution.state is State.OUTCOME_UNKNOWN


async def test_the_last_one_whose_time_is_up_takes_the_call_along_and_hears_how_it_ended(house: House) -> None:
    gate = Gate(house, Effect.SIDE_EFFECT)
    first, last = call(), call(client_budget=0.05)
    flight = await begun(house, first)
    await begun(house, last)
    await asyncio.wait_for(gate.running.wait(), PATIENCE)
    assert not left(flight, first)
    row = await told(flight, last)
    assert row.state is State.OUTCOME_UNKNOWN
    assert row.failure is not None
    assert row.failure.reason is Reason.CLIENT_DEADLINE


@pytest.mark.parametrize("effect", [Effect.READ_ONLY, Effect.IDEMPOTENT])
async def test_a_caller_that_lost_its_connection_and_is_back_at_once_gets_an_answer(
    house: House, effect: Effect
) -> None:
    gate = Gate(house, effect)
    first, again = call(), call()
    flight = await begun(house, first)
    await asyncio.wait_for(gate.running.wait(), PATIENCE)
    assert left(flight, first)
    back = asyncio.create_task(house.executor.execute(again))
    await asyncio.wait_for(flight.ended(None), PATIENCE)
    gate.go.set()
    anew = await asyncio.wait_for(back, PATIENCE)
    row = await told(anew, again)
    assert flight.execution.state is State.CANCELLED
    assert (row.state, row.result) == (State.SUCCEEDED, b"2")
    assert row.execution_id != flight.execution.execution_id


async def test_a_caller_that_is_back_waits_no_longer_than_its_own_time(house: House) -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            await ended.wait()

    house.options["stop_grace"] = PATIENCE
    house.tool(held, Effect.READ_ONLY)
    first, again = call(), call(timeout=0.05)
    flight = await begun(house, first)
    await asyncio.wait_for(running.wait(), PATIENCE)
    assert left(flight, first)
    with pytest.raises(ToolwrightError) as late:
        await asyncio.wait_for(house.executor.execute(again), PATIENCE)
    assert late.value.failure.reason is Reason.TOOL_TIMEOUT
    assert late.value.failure.metadata["outcome"] == "not_started"
    ended.set()
    await asyncio.wait_for(flight.ended(None), PATIENCE)


async def test_a_side_effect_whose_caller_is_back_is_not_done_again(house: House) -> None:
    gate = Gate(house, Effect.SIDE_EFFECT)
    first = call()
    flight = await begun(house, first)
    await asyncio.wait_for(gate.running.wait(), PATIENCE)
    assert left(flight, first)
    await asyncio.wait_for(flight.ended(None), PATIENCE)
    with pytest.raises(ToolwrightError) as unknown:
        await house.executor.execute(call())
    assert unknown.value.failure.reason is Reason.OUTCOME_UNKNOWN
    assert gate.runs == 1
