"""The tool runs in the task that settles its execution: whatever it does to that task, the record is settled."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from toolwright_server.catalog.model import Effect
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Execution, State, Stopped

from .house import PATIENCE, House

pytestmark = pytest.mark.asyncio

SIDE = Effect.SIDE_EFFECT


def own_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancels_itself_and_waits() -> int:
    own_task().cancel()
    await asyncio.sleep(0)
    return 1


async def cancels_itself_and_answers() -> int:
    own_task().cancel()
    return 1


async def cancels_itself_thrice_and_goes_on() -> int:
    for _ in range(3):
        own_task().cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass
    return 1


class SlowStore:
    """Makes every settling of a house wait for a turn of the loop, as a store on disk does."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settled: list[str] = []
        settle = house.store.settle

        async def slowly(execution: Execution, *, awaited: bool = True) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await settle(execution, awaited=awaited)
            self.settled.append(execution.execution_id)

        monkeypatch.setattr(house.store, "settle", slowly)


@pytest.mark.parametrize(
    ("tool", "state"),
    [
        (cancels_itself_and_waits, State.FAILED),
        (cancels_itself_and_answers, State.SUCCEEDED),
        (cancels_itself_thrice_and_goes_on, State.SUCCEEDED),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_a_tool_that_cancels_its_own_task_does_not_cancel_its_record(
    house: House, monkeypatch: pytest.MonkeyPatch, tool: Callable[[], Awaitable[int]], state: State
) -> None:
    store = SlowStore(house, monkeypatch)
    house.tool(tool, SIDE)
    execution = await house.run(tool.__name__)
    assert (execution.state, execution.stopped) == (state, Stopped.YES)
    assert store.settled == [execution.execution_id]


async def test_an_order_to_stop_in_the_last_step_of_a_tool_does_not_reach_its_record(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    flights: list[Flight] = []

    async def last_words() -> str:
        flights[0].stop(Stop.REQUESTED)
        return "done all the same"

    store = SlowStore(house, monkeypatch)
    house.tool(last_words, SIDE)
    flights.append(await house.begin("last_words"))
    assert await flights[0].ended(PATIENCE)
    execution = flights[0].execution
    assert (execution.state, execution.result) == (State.SUCCEEDED, b'"done all the same"')
    assert store.settled == [execution.execution_id]


async def test_an_order_to_stop_while_the_record_is_kept_changes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping, go = asyncio.Event(), asyncio.Event()
    settle = house.store.settle

    async def slowly(execution: Execution, *, awaited: bool = True) -> None:
        keeping.set()
        await go.wait()
        await settle(execution, awaited=awaited)

    async def quick() -> int:
        return 1

    monkeypatch.setattr(house.store, "settle", slowly)
    house.tool(quick)
    flight = await house.begin("quick")
    await asyncio.wait_for(keeping.wait(), PATIENCE)
    flight.stop(Stop.REQUESTED)
    go.set()
    assert await flight.ended(PATIENCE)
    assert (flight.execution.state, flight.stop_reason) == (State.SUCCEEDED, None)


async def test_time_limits_and_task_groups_of_a_tool_hold_in_the_shared_task(house: House) -> None:
    seen: list[str] = []

    async def careful() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("its own limit")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
        except asyncio.CancelledError:
            seen.append("told to stop")
            raise
        return "never"

    house.tool(careful)
    execution = await house.run("careful", timeout=0.05)
    assert (execution.state, execution.stopped) == (State.TIMED_OUT, Stopped.YES)
    assert seen == ["its own limit", "told to stop"]


async def test_what_settles_an_overrun_is_not_disturbed_when_the_tool_ends_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping, go, release = asyncio.Event(), asyncio.Event(), asyncio.Event()
    settle, settled = house.store.settle, list[str]()

    async def slowly(execution: Execution, *, awaited: bool = True) -> None:
        keeping.set()
        await go.wait()
        await settle(execution, awaited=awaited)
        settled.append(execution.execution_id)

    async def mule() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass
        return "too late"

    monkeypatch.setattr(house.store, "settle", slowly)
    house.tool(mule, SIDE)
    flight = await house.begin("mule", timeout=0.01)
    tool_task = flight.task
    assert tool_task is not None
    await asyncio.wait_for(keeping.wait(), PATIENCE)
    release.set()
    await asyncio.wait((tool_task,), timeout=PATIENCE)
    assert tool_task.done()
    go.set()
    assert await flight.ended(PATIENCE)
    assert (flight.execution.state, flight.execution.stopped) == (State.OUTCOME_UNKNOWN, Stopped.NO)
    assert settled == [flight.execution.execution_id]


async def test_a_corridor_that_breaks_off_answers_its_caller(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(execution: Execution) -> None:
        raise OSError("the disk is gone")

    async def quick() -> int:
        return 1

    monkeypatch.setattr(house.store, "settle", broken)
    house.tool(quick)
    execution = await house.run("quick")
    assert execution.failure is not None
    assert execution.failure.reason.name == "INTERNAL"
    assert "broke off" in caplog.text
    assert house.executor.running == 0
