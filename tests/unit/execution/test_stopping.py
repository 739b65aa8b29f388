"""How a call ends that does not end by itself: by its deadline, or because its caller does not want it any more."""

import asyncio
import time
from typing import Any

import pytest

from toolwright_server.catalog.context import AsyncToolContext
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.backend import Work
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import ANONYMOUS

from .house import PATIENCE, House

pytestmark = pytest.mark.asyncio

READ, SAFE, SIDE = Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT
SHORT = 0.05


async def forever() -> None:
    await asyncio.Event().wait()


async def end_of(flight: Flight) -> Execution:
    assert await flight.ended(PATIENCE)
    return flight.execution


def facts(execution: Execution) -> tuple[State, str, str | None]:
    """State, reason and what is known of the side effect."""
    assert execution.failure is not None
    return execution.state, execution.failure.reason.name, execution.failure.metadata.get("outcome")


LIMITS: dict[DeadlineSource, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # What limits: the invocation, the tool's declaration, the server's options.
    DeadlineSource.CLIENT: ({"client_budget": SHORT}, {}, {}),
    DeadlineSource.REQUEST: ({"timeout": SHORT}, {}, {}),
    DeadlineSource.TOOL: ({}, {"timeout_seconds": SHORT}, {}),
    DeadlineSource.CATEGORY: ({}, {}, {"category_timeouts": {"tests": SHORT}}),
    DeadlineSource.SERVER: ({}, {}, {"default_timeout": SHORT}),
}


@pytest.mark.parametrize("source", list(LIMITS))
async def test_the_shortest_limit_ends_the_call_and_is_named(house: House, source: DeadlineSource) -> None:
    asked, declared, options = LIMITS[source]
    house.tool(forever, READ, **declared)
    house.options.update(options)
    execution = await house.run("forever", **asked)
    client = source is DeadlineSource.CLIENT
    assert facts(execution) == (State.TIMED_OUT, "CLIENT_DEADLINE" if client else "TOOL_TIMEOUT", "none")
    assert execution.deadline_source is source
    assert execution.failure is not None
    assert execution.failure.metadata["source"] == source.name
    assert execution.failure.metadata["limit_seconds"] == "0.050"
    assert execution.failure.metadata["attempts"] == "1"
    assert execution.stopped is Stopped.YES
    assert execution.create_time < execution.deadline_time <= execution.create_time + SHORT


async def test_no_call_lasts_longer_than_the_server_allows(house: House) -> None:
    house.tool(forever, READ, timeout_seconds=50)
    house.options["maximum_timeout"] = SHORT
    execution = await house.run("forever", timeout=40, client_budget=30)
    assert execution.deadline_source is DeadlineSource.SERVER


@pytest.mark.parametrize(
    ("effect", "state", "outcome"),
    [
        (SIDE, State.OUTCOME_UNKNOWN, "unknown"),
        (SAFE, State.TIMED_OUT, "unknown"),
        (READ, State.TIMED_OUT, "none"),
    ],
)
async def test_what_a_timeout_means_depends_on_the_effect(
    house: House, effect: Effect, state: State, outcome: str
) -> None:
    house.tool(forever, effect)
    assert facts(await house.run("forever", timeout=SHORT)) == (state, "TOOL_TIMEOUT", outcome)


@pytest.mark.parametrize("effect", list(Effect))
async def test_a_call_that_waits_for_a_worker_until_its_time_is_up_was_not_started(
    house: House, effect: Effect
) -> None:
    async def queue(work: Work) -> bytes:
        await forever()
        return b""

    house.remote(queue, effect)
    execution = await house.run("remote", timeout=SHORT)
    assert facts(execution) == (State.TIMED_OUT, "TOOL_TIMEOUT", "not_started")
    assert (execution.attempts, execution.start_time, execution.tool_seconds) == (0, None, None)
    assert execution.queue_seconds is not None


@pytest.mark.parametrize("budget", [-0.01, 0.0])
async def test_a_call_without_any_time_is_refused_and_not_recorded(house: House, budget: float) -> None:
    house.tool(forever)
    with pytest.raises(ToolwrightError) as caught:
        await house.begin("forever", client_budget=budget)
    failure = caught.value.failure
    assert failure.reason is Reason.CLIENT_DEADLINE
    assert failure.metadata == {"outcome": "not_started", "source": "CLIENT"}
    assert await house.store.list(ANONYMOUS, ExecutionQuery(10)) == []


@pytest.mark.parametrize(
    ("effect", "state", "outcome"),
    [
        (SIDE, State.OUTCOME_UNKNOWN, "unknown"),
        (SAFE, State.CANCELLED, "unknown"),
        (READ, State.CANCELLED, "none"),
    ],
)
@pytest.mark.parametrize("reason", [Stop.REQUESTED, Stop.CLIENT_LEFT, Stop.DRAINING])
async def test_a_call_that_is_cancelled_stops(
    house: House, reason: Stop, effect: Effect, state: State, outcome: str
) -> None:
    running = asyncio.Event()

    async def wait(context: AsyncToolContext) -> None:
        running.set()
        try:
            await forever()
        finally:
            context.log("info", f"cancelled: {context.cancelled}")

    house.tool(wait, effect)
    flight = await house.begin("wait")
    await running.wait()
    flight.stop(reason)
    flight.stop(Stop.PARENT_ENDED)
    execution = await end_of(flight)
    assert facts(execution) == (state, "CANCELLED", outcome)
    assert execution.stopped is Stopped.YES
    assert execution.failure is not None
    assert reason.value in execution.failure.message
    assert any(getattr(what, "text", "") == "cancelled: True" for what in house.happenings(execution))


async def test_a_call_that_is_cancelled_before_its_tool_began_was_not_started(house: House) -> None:
    house.tool(forever, SIDE)
    flight = await house.begin("forever")
    flight.stop(Stop.REQUESTED)
    assert facts(await end_of(flight)) == (State.CANCELLED, "CANCELLED", "not_started")


async def test_cancelling_after_the_end_changes_nothing(house: House) -> None:
    async def quick() -> int:
        return 1

    house.tool(quick)
    flight = await house.begin("quick")
    execution = await end_of(flight)
    flight.stop(Stop.REQUESTED)
    assert (execution.state, execution.result) == (State.SUCCEEDED, b"1")


async def leave(flight: Flight) -> None:
    """A caller that waits, and then goes away."""
    waiting = asyncio.create_task(outlast(flight, flight.invocation))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_caller_that_leaves_takes_its_execution_along(house: House) -> None:
    house.tool(forever, READ)
    flight = await house.begin("forever", client_budget=30.0)
    await leave(flight)
    execution = await end_of(flight)
    assert execution.state is State.CANCELLED
    assert flight.stop_reason is Stop.CLIENT_LEFT


async def test_a_caller_that_leaves_at_its_deadline_has_run_out_of_time(house: House) -> None:
    house.tool(forever, READ)
    # Whether the caller or our own timer is first: its time is up.
    flight = await house.begin("forever", client_budget=0.5, received=time.monotonic() - 1.0)
    await leave(flight)
    assert facts(await end_of(flight))[:2] == (State.TIMED_OUT, "CLIENT_DEADLINE")


async def test_a_detached_execution_outlives_its_caller(house: House) -> None:
    go = asyncio.Event()

    async def patient() -> int:
        await go.wait()
        return 1

    house.tool(patient, SIDE)
    flight = await house.begin("patient", detach=True, client_budget=30.0)
    assert flight.deadline.source is DeadlineSource.SERVER
    await leave(flight)
    go.set()
    assert (await end_of(flight)).state is State.SUCCEEDED


async def test_the_caller_of_a_detached_execution_is_told_in_time_that_it_goes_on(house: House) -> None:
    go = asyncio.Event()

    async def patient() -> int:
        await go.wait()
        return 1

    house.tool(patient, SIDE)
    flight = await house.begin("patient", detach=True, client_budget=SHORT)
    with pytest.raises(ToolwrightError, match="goes on without it") as caught:
        await asyncio.wait_for(outlast(flight, flight.invocation), PATIENCE)
    failure = caught.value.failure
    assert failure.reason is Reason.CLIENT_DEADLINE
    assert failure.metadata["execution_id"] == flight.execution.execution_id
    assert failure.metadata["outcome"] == "unknown"
    go.set()
    assert (await end_of(flight)).state is State.SUCCEEDED
