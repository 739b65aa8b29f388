"""Calls made by tools: what a child inherits, and that it never outlives its parent."""

import asyncio
from typing import Any

import pytest

from toolwright_server.catalog.context import AsyncToolContext, ToolCallError, ToolError
from toolwright_server.catalog.model import Effect
from toolwright_server.conditions import Comparison, Relation
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.backend import Work
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import ANONYMOUS

from .house import PATIENCE, House

pytestmark = pytest.mark.asyncio

SHORT = 0.05


async def forever() -> None:
    await asyncio.Event().wait()


async def child_of(house: House, parent: Execution) -> Execution:
    """The one child of an execution, once there is one."""
    query = ExecutionQuery(10, condition=Comparison("parent_execution_id", Relation.EQUAL, parent.execution_id))
    async with asyncio.timeout(PATIENCE):
        while not (found := await house.store.list(ANONYMOUS, query)):
            house.store.added.clear()
            await house.store.added.wait()
    (child,) = found
    return child


def asking(house: House, tool: str, arguments: Any = None) -> list[ToolCallError]:
    """Declare `tests.ask`, which calls a tool and keeps the error that it gets."""
    errors: list[ToolCallError] = []

    async def ask(context: AsyncToolContext) -> Any:
        try:
            return await context.call(tool, arguments)
        except ToolCallError as error:
            errors.append(error)
            return None

    house.tool(ask)
    return errors


async def test_a_child_inherits_deadline_caller_task_and_session(house: House) -> None:
    async def grandchild(context: AsyncToolContext) -> list[Any]:
        return [context.task_id, context.execution_id]

    async def child(context: AsyncToolContext, n: int) -> Any:
        return [n, await context.call("tests.grandchild")]

    async def parent(context: AsyncToolContext) -> Any:
        return await context.call("tests.child", {"n": 2**63})

    for function in (parent, child, grandchild):
        house.tool(function)
    caller = ANONYMOUS.acting_for("ann")
    execution = await house.run(
        "parent", caller=caller, timeout=20.0, session_id="s", agent_id="g", task_id="task", request_id="r"
    )
    middle = await child_of(house, execution)
    last = await child_of(house, middle)
    assert execution.state is middle.state is last.state is State.SUCCEEDED
    assert execution.result == f'[{2**63},["task","{last.execution_id}"]]'.encode()
    for each in (middle, last):
        assert (each.caller, each.task_id, each.session_id, each.agent_id) == (caller, "task", "s", "g")
        assert each.deadline_source is execution.deadline_source
        assert each.deadline_time == pytest.approx(execution.deadline_time, abs=1.0)
        assert each.request_id == ""
        assert each.trace_id == execution.trace_id


async def test_a_child_may_have_a_shorter_deadline_but_no_longer_one(house: House) -> None:
    errors = asking(house, "tests.forever")
    house.tool(forever, Effect.READ_ONLY, timeout_seconds=SHORT)
    execution = await house.run("ask", timeout=20.0)
    assert execution.state is State.SUCCEEDED
    assert [(error.reason, error.metadata["source"]) for error in errors] == [("TOOL_TIMEOUT", "TOOL")]
    long = await house.begin("ask", timeout=SHORT)
    assert (await end_of(long)).state is State.TIMED_OUT
    assert (await child_of(house, long.execution)).deadline_time <= long.execution.deadline_time + 1.0


async def end_of(flight: Flight) -> Execution:
    assert await flight.ended(PATIENCE)
    return flight.execution


@pytest.mark.parametrize("reason", [Stop.REQUESTED, Stop.CLIENT_LEFT, Stop.DEADLINE])
async def test_a_child_is_stopped_with_its_parent(house: House, reason: Stop) -> None:
    asking(house, "tests.forever")
    house.tool(forever, Effect.READ_ONLY)
    flight = await house.begin("ask")
    child = await child_of(house, flight.execution)
    running = house.executor.attend(child)
    assert isinstance(running, Flight)
    flight.stop(reason)
    await end_of(flight)
    await end_of(running)
    assert running.stop_reason is Stop.PARENT_ENDED
    assert (child.state, child.stopped) == (State.CANCELLED, Stopped.YES)
    assert not flight.children


async def test_a_parent_that_leaves_its_call_behind_takes_the_child_along(house: House) -> None:
    left: list[asyncio.Task[Any]] = []

    async def careless(context: AsyncToolContext) -> None:
        left.append(asyncio.create_task(context.call("tests.forever")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    house.tool(careless)
    house.tool(forever)
    execution = await house.run("careless")
    child = await child_of(house, execution)
    with pytest.raises(ToolCallError, match="the call in which it was a step ended"):
        await asyncio.wait_for(left[0], PATIENCE)
    assert child.state is State.CANCELLED


async def test_a_tool_that_goes_on_after_its_end_cannot_start_anything(house: House) -> None:
    errors: list[ToolCallError] = []
    running, settled, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    started: list[str] = []

    async def step() -> None:
        started.append("step")

    async def ghost(context: AsyncToolContext) -> None:
        running.set()
        while not settled.is_set():
            try:
                await settled.wait()
            except asyncio.CancelledError:
                continue
        try:
            await context.call("tests.step")
        except ToolCallError as error:
            errors.append(error)
        done.set()

    house.tool(ghost)
    house.tool(step, Effect.SIDE_EFFECT)
    flight = await house.begin("ghost")
    await running.wait()
    flight.stop(Stop.REQUESTED)
    await end_of(flight)
    settled.set()
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert [(error.reason, error.metadata["outcome"]) for error in errors] == [("CANCELLED", "not_started")]
    assert started == []


async def test_nesting_ends_at_the_limit(house: House) -> None:
    reasons: list[tuple[str, str]] = []

    async def dig(context: AsyncToolContext, depth: int) -> int:
        try:
            return await context.call("tests.dig", {"depth": depth + 1})
        except ToolCallError as error:
            reasons.append((error.reason, error.metadata["outcome"]))
            return depth

    house.tool(dig)
    execution = await house.run("dig", {"depth": 0})
    assert execution.result == b"3"
    assert reasons == [("INVALID_STATE", "not_started")]


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("tests.nowhere", {}, "TOOL_NOT_FOUND"),
        ("tests.add", {}, "INVALID_ARGUMENTS"),
        ("tests.add", {"a": "1"}, "INVALID_ARGUMENTS"),
        ("tests.add", {"a": 2**64}, "INVALID_ARGUMENTS"),
        ("tests.add", {"a": float("nan")}, "INVALID_ARGUMENTS"),
        ("tests.add", {"a": object()}, "INVALID_ARGUMENTS"),
        ("tests.add", {"a": 1, "b": "\ud800"}, "INVALID_ARGUMENTS"),
    ],
)
async def test_a_refused_call_is_an_error_that_the_tool_can_handle(
    house: House, tool: str, arguments: dict[str, Any], reason: str
) -> None:
    async def add(a: int) -> int:
        return a

    errors = asking(house, tool, arguments)
    house.tool(add)
    assert (await house.run("ask")).state is State.SUCCEEDED
    assert [error.reason for error in errors] == [reason]


async def test_a_failed_call_brings_the_words_of_the_tool_that_failed(house: House) -> None:
    async def taken() -> None:
        raise ToolError("the email is taken", reason="EMAIL_TAKEN", retryable=True)

    errors = asking(house, "tests.taken")
    house.tool(taken)
    execution = await house.run("ask")
    (error,) = errors
    child = await child_of(house, execution)
    assert (error.reason, error.message, error.retryable) == ("TOOL_FAILED", "the email is taken", True)
    tried = {"attempts": "4", "no_retry": "4 attempts were made, which is all that are allowed"}
    assert error.metadata == {"tool_reason": "EMAIL_TAKEN", "execution_id": child.execution_id, **tried}


async def test_a_child_gets_arguments_of_its_own_and_json_only(house: House) -> None:
    given: dict[str, Any] = {"items": [1], "pair": (1, 2)}
    seen: list[Any] = []

    async def spoil(items: list[Any], pair: list[Any]) -> None:
        seen.append(list(pair))
        items.append("spoiled")

    asking(house, "tests.spoil", given)
    house.tool(spoil)
    await house.run("ask")
    assert given == {"items": [1], "pair": (1, 2)}
    assert seen == [[1, 2]]


async def test_a_backend_is_told_which_calls_are_steps_of_others(house: House) -> None:
    nested: list[bool] = []

    async def look(work: Work) -> bytes:
        work.reporter.started()
        nested.append(work.nested)
        return b"null"

    asking(house, "tests.remote")
    house.remote(look)
    await house.run("ask")
    await house.run("remote")
    assert nested == [True, False]


async def test_many_children_at_once_all_answer(house: House) -> None:
    async def square(n: int) -> int:
        return n * n

    async def sum_up(context: AsyncToolContext) -> int:
        return sum(await asyncio.gather(*(context.call("tests.square", {"n": n}) for n in range(50))))

    house.tool(square)
    house.tool(sum_up)
    flight = await house.begin("sum_up")
    assert (await outlast(flight, flight.invocation)).result == str(sum(n * n for n in range(50))).encode()
    assert not flight.children
