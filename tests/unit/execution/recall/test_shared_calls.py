"""The same call in flight: one call of the tool for all who ask meanwhile, whoever of them leaves."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.execution.corridor import invocation, somebody
from tests.unit.execution.house import PATIENCE, UNLIMITED, House
from tests.unit.execution.sharing import ADA, BOB, JOINED_ONLY, KEPT, Gate, begun, call, ended, party, told
from tests.unit.execution.test_admission import allowing
from toolwright_server.catalog.context import AsyncToolContext, ToolError
from toolwright_server.catalog.model import CachePolicy, Effect
from toolwright_server.errors import Reason, ToolwrightError, crowded
from toolwright_server.execution.attendance import left
from toolwright_server.execution.backend import NotSent, Work
from toolwright_server.execution.events import StateChanged
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import CacheMode, Source, State, Stopped
from toolwright_server.limits.model import Kind

pytestmark = pytest.mark.asyncio


async def test_calls_of_the_same_share_one_call_of_the_tool(house: House) -> None:
    gate = Gate(house)
    flights = await party(house, gate, 100)
    gate.go.set()
    first, *others = [await told(each) for each in flights]
    assert gate.runs == 1
    assert (first.source, first.attempts) == (Source.TOOL, 1)
    assert {(row.source, row.result, row.source_execution_id, row.attempts, row.stopped) for row in others} == {
        (Source.JOINED, b"1", first.execution_id, 0, Stopped.UNSPECIFIED)
    }
    assert len({row.execution_id for row in others}) == 99
    assert house.happenings(others[0]) == [StateChanged(State.QUEUED, State.SUCCEEDED)]


async def test_nothing_is_left_behind_and_the_next_one_is_called_anew(house: House) -> None:
    gate = Gate(house)
    flights = await party(house, gate)
    gate.go.set()
    for each in flights:
        await told(each)
    assert house.executor._recall.calls == 0  # pyright: ignore[reportPrivateUsage]
    assert (await ended(house, call())).result == b"2"


@pytest.mark.parametrize(
    "facts",
    [
        {"n": 1},
        {"caller": BOB},
        {"caller": somebody(principal="another", user="ada")},
        {"cache_mode": CacheMode.BYPASS},
    ],
    ids=["arguments", "user", "principal", "bypass"],
)
async def test_another_call_is_not_joined(house: House, facts: dict[str, Any]) -> None:
    gate = Gate(house)
    flights = await party(house, gate)
    other = await begun(house, call(**facts))
    gate.go.set()
    assert (await told(other)).source is Source.TOOL
    for each in flights:
        await told(each)
    assert gate.runs == 2


async def test_a_call_that_allows_more_attempts_does_not_join_a_hasty_one(house: House) -> None:
    gate = Gate(house)
    (hasty,) = await party(house, gate, 1, max_attempts=1)
    as_hasty, patient = [await begun(house, call(max_attempts=most)) for most in (1, None)]
    gate.go.set()
    sources = [(await told(each)).source for each in (hasty, as_hasty, patient)]
    assert (sources, gate.runs) == ([Source.TOOL, Source.JOINED, Source.TOOL], 2)


async def test_all_get_the_failure_of_the_tool_each_under_its_own_name(house: House) -> None:
    gate = Gate(house)
    gate.error = ToolError("it is broken")
    flights = await party(house, gate)
    gate.go.set()
    first, *others = [await told(each) for each in flights]
    for row in others:
        assert row.failure is not None
        assert (row.state, row.failure.message) == (State.FAILED, "it is broken")
        assert row.failure.metadata["execution_id"] == row.execution_id
        assert row.source_execution_id == first.execution_id
    assert gate.runs == 1


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_one_who_leaves_takes_nothing_from_the_others(house: House, who: int) -> None:
    gate = Gate(house)
    flights = await party(house, gate)
    gone = flights.pop(who)
    left(gone, gone.invocation)
    await asyncio.sleep(0)
    gate.go.set()
    assert [(await told(each)).result for each in flights] == [b"1", b"1"]
    assert (gate.runs, gate.stopped) == (1, 0)
    assert await gone.ended(PATIENCE)
    assert gone.execution.state is (State.SUCCEEDED if who == 0 else State.CANCELLED)


async def test_the_last_one_who_leaves_takes_the_call_along(house: House) -> None:
    gate = Gate(house)
    flights = await party(house, gate)
    for each in flights:
        assert gate.stopped == 0
        left(each, each.invocation)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for each in flights:
        assert await each.ended(PATIENCE)
        assert each.execution.state is State.CANCELLED
    assert (gate.runs, gate.stopped) == (1, 1)


async def test_each_has_a_deadline_of_its_own(house: House) -> None:
    gate = Gate(house)
    first, *_ = await party(house, gate, 2)
    hasty = await begun(house, call(timeout=0.03))
    row = await told(hasty)
    assert (row.state, row.attempts) == (State.TIMED_OUT, 0)
    assert row.failure is not None
    assert (row.failure.reason, row.failure.metadata["outcome"]) == (Reason.TOOL_TIMEOUT, "not_started")
    gate.go.set()
    assert (await told(first)).result == b"1"


async def test_a_deadline_of_the_first_is_not_that_of_the_others_one_of_whom_calls_the_tool_again(house: House) -> None:
    gate = Gate(house)
    hasty = await begun(house, call(timeout=0.05))
    others = [await begun(house, call(timeout=20.0 + number)) for number in range(3)]
    assert (await told(hasty)).state is State.TIMED_OUT
    await gate.until(2)
    gate.go.set()
    rows = [await told(each) for each in others]
    assert {(row.source, row.result) for row in rows} == {(Source.JOINED, b"2")}
    assert gate.runs == 2
    step = await house.store.get(ADA, rows[0].source_execution_id)
    assert step is not None
    # Made for the one that has most time left, as a step of it.
    assert (step.parent_execution_id, step.source) == (rows[-1].execution_id, Source.TOOL)
    assert step.deadline_time <= rows[-1].deadline_time + 1


async def test_an_order_to_stop_the_first_stops_it_alone(house: House) -> None:
    gate = Gate(house)
    first, *others = await party(house, gate)
    assert house.executor.stop(first.execution.execution_id, Stop.REQUESTED)
    await gate.until(2)
    assert (await told(first)).state is State.CANCELLED
    gate.go.set()
    assert [(await told(each)).result for each in others] == [b"2", b"2"]


async def test_who_comes_while_an_abandoned_call_ends_does_not_join_it(house: House) -> None:
    gate = Gate(house)
    (only,) = await party(house, gate, 1)
    left(only, only.invocation)
    late = await begun(house, call())
    gate.go.set()
    assert (await told(late)).result == b"2"
    assert only.execution.state is State.CANCELLED


async def test_a_call_that_joined_takes_no_place_and_pays_nothing(house: House) -> None:
    house.rules = replace(allowing(Kind.RUNNING, 1), costs=UNLIMITED.costs)
    gate = Gate(house, price=5)
    flights = await party(house, gate, 5)
    gate.go.set()
    assert [(await told(each)).cost_micros for each in flights] == [5_000_000, 0, 0, 0, 0]


async def test_those_who_ask_while_the_first_waits_for_a_place_wait_with_it(house: House) -> None:
    house.rules = allowing(Kind.RUNNING, 1)
    gate = Gate(house)
    busy = await begun(house, call(1))
    waiting = [asyncio.create_task(ended(house, call())) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert house.executor.running == 1
    # The first of them leaves: another one takes its place in the line.
    waiting.pop(0).cancel()
    gate.go.set()
    rows = [await asyncio.wait_for(each, PATIENCE) for each in waiting]
    assert sorted(row.source.name for row in rows) == ["JOINED"] * 8 + ["TOOL"]
    await told(busy)
    assert gate.runs == 2


async def test_a_refusal_of_the_first_is_each_ones_own(house: House) -> None:
    house.rules = allowing(Kind.WINDOW, 1)
    gate = Gate(house)
    await party(house, gate, 1, n=1)
    failures: list[Reason] = []
    for answer in await asyncio.gather(
        *(begun(house, call(request_id=str(n))) for n in range(5)), return_exceptions=True
    ):
        assert isinstance(answer, ToolwrightError)
        failures.append(answer.failure.reason)
    assert failures == [Reason.RATE_LIMITED] * 5
    assert house.executor._recall.calls == 1  # pyright: ignore[reportPrivateUsage]


async def test_who_must_call_the_tool_after_all_is_counted_then(house: House) -> None:
    house.rules = allowing(Kind.WINDOW, 1)
    gate = Gate(house)
    first, *others = await party(house, gate)
    house.executor.stop(first.execution.execution_id, Stop.REQUESTED)
    rows = [await told(each) for each in others]
    assert {(row.state, row.failure.reason if row.failure else None) for row in rows} == {
        (State.REJECTED, Reason.RATE_LIMITED)
    }
    assert gate.runs == 1


async def test_a_request_id_is_joined_as_itself(house: House) -> None:
    gate = Gate(house)
    asked = [call(request_id="first"), call(request_id="second"), call(request_id="second")]
    flights = [await begun(house, each) for each in asked]
    assert flights[1] is flights[2] is not flights[0]
    gate.go.set()
    rows = [await told(flight, each) for flight, each in zip(flights, asked, strict=True)]
    assert [row.source for row in rows] == [Source.TOOL, Source.JOINED, Source.JOINED]
    assert gate.runs == 1


async def test_a_detached_one_stays_when_its_caller_leaves(house: House) -> None:
    gate = Gate(house)
    first, second = await party(house, gate, 2)
    third = await begun(house, call(detach=True))
    for each in (first, second, third):
        left(each, each.invocation)
    await asyncio.sleep(0.01)
    gate.go.set()
    assert await third.ended(PATIENCE)
    assert (third.execution.state, gate.stopped) == (State.SUCCEEDED, 0)


async def test_a_fresh_answer_is_not_one_that_runs_already_and_is_the_one_that_is_kept(house: House) -> None:
    gate = Gate(house, KEPT)
    old = await party(house, gate, 2)
    fresh = await begun(house, call(cache_mode=CacheMode.REFRESH))
    late = await begun(house, call())
    gate.go.set()
    rows = [await told(each) for each in (*old, fresh, late)]
    assert [row.result for row in rows] == [b"1", b"1", b"2", b"2"]
    assert (await ended(house, call())).result == b"2"
    assert gate.runs == 2


async def test_at_the_end_of_the_server_all_end(house: House) -> None:
    gate = Gate(house)
    flights = await party(house, gate, 20)
    await asyncio.wait_for(house.executor.stop_all(Stop.DRAINING), PATIENCE)
    assert all(each.finished for each in flights)
    assert gate.runs == 1
    assert house.executor._recall.calls == 0  # pyright: ignore[reportPrivateUsage]


async def test_a_step_never_waits_for_what_its_own_call_waits_for(house: House) -> None:
    depths: list[int] = []

    async def turning(context: AsyncToolContext) -> int:
        depths.append(len(depths))
        return len(depths) if len(depths) == 2 else await context.call("tests.turning")

    house.tool(turning, cache=JOINED_ONLY)
    assert (await house.run("turning")).result == b"2"


async def test_two_calls_whose_steps_ask_for_each_other_do_not_wait_for_each_other(house: House) -> None:
    met = asyncio.Barrier(2)
    runs: list[str] = []

    def asking(name: str, other: str) -> Any:
        async def ask(context: AsyncToolContext, deep: bool = False) -> str:
            runs.append(name)
            if runs.count(name) > 1:
                return name
            await met.wait()
            return str(await context.call(f"tests.{other}"))

        ask.__name__ = name
        return ask

    house.tool(asking("left", "right"), cache=JOINED_ONLY)
    house.tool(asking("right", "left"), cache=JOINED_ONLY)

    async def both(context: AsyncToolContext) -> list[Any]:
        return list(await asyncio.gather(context.call("tests.left"), context.call("tests.right")))

    house.tool(both)
    row = await house.run("both")
    assert row.result in (b'["right","right"]', b'["left","left"]', b'["right","left"]')


async def test_a_step_does_not_wait_for_a_call_that_may_wait_for_its_callers_place(house: House) -> None:
    gate = Gate(house)

    async def stepping(context: AsyncToolContext) -> Any:
        return await context.call("tests.held", {"n": 0})

    house.tool(stepping)
    (first,) = await party(house, gate, 1)
    outer = await begun(house, invocation("tests.stepping", caller=ADA))
    await gate.until(2)
    gate.go.set()
    assert ((await told(outer)).result, (await told(first)).result) == (b"2", b"1")


async def test_steps_join_steps_and_calls_join_steps(house: House) -> None:
    gate = Gate(house)

    async def stepping(context: AsyncToolContext) -> Any:
        return await asyncio.gather(*(context.call("tests.held", {"n": 0}) for _ in range(3)))

    house.tool(stepping)
    outer = await begun(house, invocation("tests.stepping", caller=ADA))
    await gate.until(1)
    root = await begun(house, call())
    gate.go.set()
    assert (await told(outer)).result == b"[1,1,1]"
    assert ((await told(root)).source, gate.runs) == (Source.JOINED, 1)


async def test_when_the_callers_of_steps_are_gone_the_others_call_the_tool_again(house: House) -> None:
    gate = Gate(house)

    async def stepping(context: AsyncToolContext) -> Any:
        return await context.call("tests.held", {"n": 0})

    house.tool(stepping)
    outer = await begun(house, invocation("tests.stepping", caller=ADA))
    await gate.until(1)
    root = await begun(house, call())
    left(outer, outer.invocation)
    await gate.until(2)
    gate.go.set()
    assert ((await told(root)).result, gate.stopped) == (b"2", 1)


async def test_a_step_that_finds_no_place_when_it_calls_again_is_told_so_and_does_not_go_on_asking(
    house: House,
) -> None:
    runs: list[Work] = []

    async def script(work: Work) -> bytes:
        runs.append(work)
        if len(runs) == 1:
            work.reporter.started()
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        raise NotSent(crowded(1, "every worker is busy"))

    async def stepping(context: AsyncToolContext) -> Any:
        return await context.call("tests.remote")

    house.remote(script, cache=JOINED_ONLY)
    house.tool(stepping)
    first, second = [await begun(house, invocation("tests.stepping", caller=ADA)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert (len(runs), house.executor.running) == (1, 4)
    assert house.executor.stop(first.execution.execution_id, Stop.REQUESTED)
    row = await told(second)
    assert row.failure is not None
    assert (row.state, row.failure.metadata["nested_reason"]) == (State.FAILED, "CONCURRENCY_LIMITED")
    assert len(runs) == 2


async def test_calls_of_the_tenant_are_joined_where_the_tool_says_so(house: House) -> None:
    gate = Gate(house, CachePolicy(0, scope="tenant"))
    first, *_ = await party(house, gate, 1)
    other = await begun(house, call(caller=BOB))
    gate.go.set()
    row = await told(other)
    assert (row.source, row.source_execution_id) == (Source.JOINED, "")
    await told(first)


async def test_side_effects_are_never_joined(house: House) -> None:
    gate = Gate(house, cache=None, effect=Effect.SIDE_EFFECT)
    flights: list[Flight] = await party(house, gate)
    gate.go.set()
    for each in flights:
        await told(each)
    assert gate.runs == 3
