"""Batches: order, how many at a time, one deadline over all, what stops them, and what one call does to the others."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.unit.execution.corridor import invocation
from tests.unit.execution.house import PATIENCE, House, WatchedStore
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.execution.batching.batch import READ_AT_ONCE_BYTES, Batch, Call, Ended, Execute, run
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Execution, Invocation, State

pytestmark = pytest.mark.asyncio


class Clock:
    """The monotonic clock, which may be set forward."""

    def __init__(self) -> None:
        self.forward = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.forward


def call(name: str, size: int = 1, **facts: Any) -> Call:
    arguments = facts.pop("arguments", None)
    return Call(lambda: invocation(f"tests.{name}", arguments, **facts), size)


def numbered(name: str, count: int, **facts: Any) -> list[Call]:
    return [call(name, arguments={"number": number}, **facts) for number in range(count)]


class Told:
    """What a batch told, by the number of the call; more than once is a mistake."""

    def __init__(self) -> None:
        self.ended: dict[int, Ended] = {}

    def __call__(self, number: int, ended: Ended) -> None:
        assert number not in self.ended
        self.ended[number] = ended

    @property
    def brief(self) -> list[str]:
        """The state or the reason of each, in the order of the calls."""
        in_order = [self.ended[number] for number in range(len(self.ended))]
        return [ended.failure.reason.name if ended.failure else _state(ended.execution) for ended in in_order]


def _state(execution: Execution | None) -> str:
    assert execution is not None
    return execution.state.name


async def batched(
    calls: Sequence[Call],
    execute: Execute,
    *,
    max_parallel: int = 100,
    stop_on_failure: bool = False,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    told: Told | None = None,
) -> Told:
    told = told or Told()
    until = None if seconds is None else clock() + seconds
    await asyncio.wait_for(run(Batch(calls, max_parallel, stop_on_failure, until), execute, told, clock), PATIENCE)
    return told


async def test_each_call_has_its_own_answer_and_only_so_many_run_at_a_time(house: House) -> None:
    running: set[int] = set()
    most: list[int] = []

    async def turn(number: int) -> int:
        running.add(number)
        most.append(len(running))
        # Later ones end first.
        for _ in range(20 - number):
            await asyncio.sleep(0)
        running.discard(number)
        return number

    house.tool(turn)
    told = await batched(numbered("turn", 20), house.executor.execute, max_parallel=4)
    assert [told.ended[number].result for number in range(20)] == [b"%d" % number for number in range(20)]
    assert list(told.ended) != sorted(told.ended)
    assert max(most) == 4


async def test_one_at_a_time_is_in_order(house: House) -> None:
    begun: list[int] = []

    async def note(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)

    house.tool(note)
    told = await batched(numbered("note", 10), house.executor.execute, max_parallel=1)
    assert begun == list(told.ended) == list(range(10))


async def test_what_the_deadline_leaves_no_time_for_is_not_begun_and_what_was_done_is_kept(house: House) -> None:
    clock = Clock()

    async def take_ten() -> None:
        clock.forward += 10

    house.tool(take_ten, Effect.SIDE_EFFECT)
    told = await batched(
        [call("take_ten", detach=True)] * 5, house.executor.execute, max_parallel=1, seconds=25, clock=clock
    )
    assert told.brief == ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "CLIENT_DEADLINE", "CLIENT_DEADLINE"]
    failure = told.ended[4].failure
    assert failure is not None
    assert failure.metadata["outcome"] == "not_started"
    assert (told.ended[4].execution, round(told.ended[0].seconds)) == (None, 10)


async def test_the_deadline_cuts_what_runs(house: House) -> None:
    async def work(number: int) -> int:
        if number % 2:
            await asyncio.Event().wait()
        return number

    house.tool(work)
    told = await batched(numbered("work", 4), house.executor.execute, seconds=0.05)
    assert told.brief == ["SUCCEEDED", "TIMED_OUT"] * 2
    cut = told.ended[1].execution
    assert cut is not None
    assert cut.failure is not None
    assert cut.failure.reason is Reason.CLIENT_DEADLINE


async def test_a_calls_own_timeout_counts_from_when_it_is_begun(house: House) -> None:
    async def quick() -> None: ...

    house.tool(quick)
    long_ago = time.monotonic() - 100
    told = await batched([call("quick", timeout=5.0, received=long_ago)], house.executor.execute, seconds=20)
    ended = told.ended[0].execution
    assert told.brief == ["SUCCEEDED"]
    assert ended is not None
    assert ended.deadline_time - ended.create_time == pytest.approx(5, abs=1)


async def test_after_a_failure_nothing_more_is_begun_and_what_runs_goes_on(house: House) -> None:
    failed, begun = asyncio.Event(), list[int]()

    async def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            failed.set()
            raise ValueError("no")
        if number == 2:
            await failed.wait()
            for _ in range(10):
                await asyncio.sleep(0)
        return number

    house.tool(work)
    told = await batched(numbered("work", 6), house.executor.execute, max_parallel=3, stop_on_failure=True)
    stopped = told.brief.index("BATCH_STOPPED")
    assert told.brief[:3] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert set(told.brief[stopped:]) == {"BATCH_STOPPED"}
    assert begun == list(range(stopped))
    last = told.ended[5].failure
    assert last is not None
    assert last.metadata == {"outcome": "not_started"}


async def test_a_refused_call_is_a_failure_of_its_own(house: House) -> None:
    async def quick() -> None: ...

    def malformed() -> Invocation:
        raise invalid("call.timeout", "must be positive")

    house.tool(quick)
    calls = [call("quick"), Call(malformed, 1), call("unknown"), call("quick", READ_AT_ONCE_BYTES + 1), call("quick")]
    told = await batched(calls, house.executor.execute, max_parallel=1)
    assert told.brief == ["SUCCEEDED", "INVALID_ARGUMENTS", "TOOL_NOT_FOUND", "SUCCEEDED", "SUCCEEDED"]
    told = await batched(calls, house.executor.execute, max_parallel=1, stop_on_failure=True)
    assert told.brief == ["SUCCEEDED", "INVALID_ARGUMENTS", *["BATCH_STOPPED"] * 3]


@pytest.mark.parametrize("defect", [RuntimeError("a defect"), asyncio.CancelledError()])
async def test_a_defect_takes_no_other_call_along(house: House, defect: BaseException) -> None:
    async def quick() -> None: ...

    async def execute(asked: Invocation) -> Any:
        if asked.request_id == "broken":
            raise defect
        return await house.executor.execute(asked)

    house.tool(quick)
    told = await batched([call("quick"), call("quick", request_id="broken"), call("quick")], execute)
    assert told.brief == ["SUCCEEDED", "INTERNAL", "SUCCEEDED"]


async def test_whoever_leaves_stops_what_runs_and_nothing_more_is_begun(house: House) -> None:
    begun, everyone = list[int](), asyncio.Event()

    async def forever(number: int) -> None:
        begun.append(number)
        if len(begun) == 3:
            everyone.set()
        await asyncio.Event().wait()

    house.tool(forever)
    calls = [*numbered("forever", 2), call("forever", arguments={"number": 2}, detach=True), *numbered("forever", 3)]
    told = Told()
    task = asyncio.create_task(batched(calls, house.executor.execute, max_parallel=3, told=told))
    await asyncio.wait_for(everyone.wait(), PATIENCE)
    flights = list(house.executor._flights.values())  # pyright: ignore[reportPrivateUsage]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (len(begun), told.ended) == (3, {})
    stopped = [flight for flight in flights if not flight.invocation.detach]
    assert all([await flight.ended(PATIENCE) for flight in stopped])
    assert {flight.execution.state for flight in stopped} == {State.CANCELLED}
    assert house.executor.running == 1


async def test_a_detached_call_that_goes_on_is_told_as_it_stands(house: House) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    house.tool(forever)
    told = await batched([call("forever", detach=True)], house.executor.execute, seconds=0.05)
    ended = told.ended[0]
    assert ended.execution is not None
    assert ended.failure is not None
    assert (ended.execution.state, ended.failure.reason) == (State.RUNNING, Reason.CLIENT_DEADLINE)
    assert ended.failure.metadata["outcome"] == "unknown"
    assert house.executor.running == 1


async def test_a_detached_call_that_is_still_being_begun_goes_on(house: House) -> None:
    go = asyncio.Event()

    class Slow(WatchedStore):
        async def add(self, execution: Execution, *, awaited: bool = True) -> Execution | None:
            await go.wait()
            return await super().add(execution, awaited=awaited)

    async def quick() -> None: ...

    slow = Slow(house.store._bounds, house.logs)  # pyright: ignore[reportPrivateUsage]
    slow.added, slow.corrected = asyncio.Event(), asyncio.Event()
    house.store = slow
    house.tool(quick, Effect.SIDE_EFFECT)
    told = await batched([call("quick", detach=True)], house.executor.execute, seconds=0.05)
    failure = told.ended[0].failure
    assert failure is not None
    assert (failure.reason, failure.metadata["outcome"]) == (Reason.CLIENT_DEADLINE, "unknown")
    go.set()
    await asyncio.wait_for(slow.added.wait(), PATIENCE)


async def test_when_the_server_has_stopped_what_runs_it_begins_nothing_more(house: House) -> None:
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    house.tool(forever)
    task = asyncio.create_task(batched([call("forever")] * 3, house.executor.execute, max_parallel=1))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    await house.executor.stop_all(Stop.DRAINING)
    told = await task
    assert told.brief == ["CANCELLED", "SERVER_DRAINING", "SERVER_DRAINING"]
    failure = told.ended[2].failure
    assert failure is not None
    assert (failure.metadata["outcome"], failure.may_retry()) == ("not_started", True)


async def test_a_call_under_a_request_id_of_an_earlier_one_gets_its_answer(house: House) -> None:
    done: list[int] = []

    async def act() -> int:
        done.append(1)
        return len(done)

    house.tool(act, Effect.SIDE_EFFECT)
    calls = [call("act", request_id=f"r-{number}") for number in range(3)]
    first = await batched(calls, house.executor.execute, max_parallel=1)
    again = await batched([*calls, call("act", request_id="r-3")], house.executor.execute, max_parallel=1)
    assert [again.ended[number].result for number in range(4)] == [b"1", b"2", b"3", b"4"]
    assert len(done) == 4
    assert first.brief == ["SUCCEEDED"] * 3


async def test_a_call_that_joins_another_and_runs_out_of_time_leaves_it_alone(house: House) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    house.tool(forever)
    flight = await house.begin("forever", request_id="shared")
    told = await batched([call("forever", request_id="shared")], house.executor.execute, seconds=0.05)
    ended = told.ended[0]
    assert isinstance(flight, Flight)
    assert ended.execution is flight.execution
    assert (told.brief, flight.finished) == (["CLIENT_DEADLINE"], False)


async def test_what_is_told_wrongly_is_heard(house: House) -> None:
    """The answer cannot be written down: the batch ends at once, and does not hang."""

    async def quick() -> None: ...

    def broken(number: int, ended: Ended) -> None:
        raise ToolwrightError(Reason.INTERNAL, f"{number} {ended}")

    house.tool(quick)
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(
            run(Batch([call("quick")] * 3, 1, False, None), house.executor.execute, broken), PATIENCE
        )
