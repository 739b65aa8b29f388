"""A call that is made again under its request id, to one real server: done once, answered as often as it is made."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from tests.breaking import LockedFile
from tests.counter import running_counter
from tests.live import LiveServer, eventually, execute_request, stubs
from tests.refused import Refused, unpacked
from tests.torture.housing import House
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc

pytestmark = pytest.mark.asyncio

DATABASE = "toolwright.sqlite3"
CALLERS = 1000
SECONDS = 30.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Generator[House]:
    folder = tmp_path_factory.mktemp("once")
    with running_counter(folder / "counter") as counter:
        yield House(folder, counter)


@pytest.fixture(scope="module")
def server(house: House) -> Generator[LiveServer]:
    settings = {"TOOLWRIGHT_CONCURRENT_CALLS_LIMIT": str(2 * CALLERS), "TOOLWRIGHT_PROCESS_WORKERS": "1"}
    with house.life(**settings) as server:
        yield server


@pytest_asyncio.fixture
async def stub(server: LiveServer) -> AsyncGenerator[Any]:
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        yield tool_execution_pb2_grpc.ToolExecutionStub(channel)


@pytest.fixture
def key() -> str:
    return uuid4().hex


def acting(key: str, **facts: Any) -> Any:
    pauses = {name: facts.pop(name) for name in ("before", "after") if name in facts}
    return execute_request("acting.act", {"key": key, **pauses}, request_id=key, **facts)


def done(house: House, key: str) -> list[int]:
    """Numbers of the side effects for this key."""
    return [effect.number for effect in house.counter.effects() if effect.key == key]


async def answered(stub: Any, request: Any) -> common_pb2.Execution:
    return (await stub.Execute(request, timeout=SECONDS)).execution


async def fails(stub: Any, request: Any) -> Refused:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Execute(request, timeout=SECONDS)
    return unpacked(caught.value)


async def watched(stub: Any, request: Any) -> tuple[Any, str]:
    """A caller that is known to wait, and the id of what it waits for."""
    call = stub.ExecuteStream(tool_execution_pb2.ExecuteStreamRequest(call=request.call), timeout=SECONDS)
    first = await call.read()
    assert first.event.HasField("snapshot")
    return call, first.event.execution_id


async def outcome(call: Any) -> common_pb2.Execution:
    """How what a caller waits for has ended."""
    last = None
    with contextlib.suppress(grpc.aio.AioRpcError):
        while (answer := await call.read()) is not grpc.aio.EOF:
            last = answer
    assert last is not None
    return last.event.finished


def waiting(stub: Any, execution_id: str) -> Any:
    return stub.WaitExecution(tool_execution_pb2.WaitExecutionRequest(execution_id=execution_id), timeout=SECONDS)


async def test_the_first_answer_is_given_again(stub: Any, house: House, key: str) -> None:
    first = await answered(stub, acting(key))
    again = acting(key, timeout=20.0, session_id="another")
    again.call.labels["try"] = "2"
    call = stub.Execute(again, timeout=SECONDS)
    second = (await call).execution
    assert (second.execution_id, second.result.value_json) == (first.execution_id, first.result.value_json)
    assert dict(tuple(await call.trailing_metadata()))["toolwright-execution-id"] == first.execution_id
    assert not second.labels
    assert len(done(house, key)) == 1


async def test_the_form_of_the_arguments_makes_no_difference(stub: Any, house: House, key: str) -> None:
    first = await answered(stub, acting(key, before=0, after=0.5))
    other = acting(key)
    other.call.arguments_json = ""
    other.call.arguments.update({"after": 0.5, "before": 0, "key": key})
    second = await answered(stub, other)
    assert second.execution_id == first.execution_id
    assert second.result.value.struct_value["key"] == key
    assert len(done(house, key)) == 1


async def test_a_failure_is_an_answer_too(stub: Any, key: str) -> None:
    failing = execute_request("diagnostics.fail", {"kind": "tool_error"}, request_id=key)
    first, second = await answered(stub, failing), await answered(stub, failing)
    assert first.state == common_pb2.STATE_FAILED
    assert second == first


@pytest.mark.timeout(120)
async def test_a_thousand_callers_of_one_call_share_one_run(stub: Any, house: House, key: str) -> None:
    answers = await asyncio.gather(*(answered(stub, acting(key, after=1.0)) for _ in range(CALLERS)))
    assert len({each.execution_id for each in answers}) == 1
    assert {each.result.value_json for each in answers} == {answers[0].result.value_json}
    assert len(done(house, key)) == 1


@pytest.mark.parametrize("pause", [0.0, 1.0], ids=["ended", "running"])
@pytest.mark.parametrize(
    "change",
    [
        {"tool": "acting.act_known"},
        {"arguments_json": '{"key":"another"}'},
        {"user_id": "somebody"},
    ],
    ids=["tool", "arguments", "user"],
)
async def test_another_call_under_the_same_name_is_refused(
    stub: Any, house: House, key: str, change: dict[str, str], pause: float
) -> None:
    call, execution_id = await watched(stub, acting(key, after=pause))
    if not pause:
        await outcome(call)
    other = acting(key, after=pause)
    for name, value in change.items():
        setattr(other.call, name, value)
    told = await fails(stub, other)
    assert (told.code, told.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert told.metadata["outcome"] == "not_started"
    assert told.metadata["execution_id"] == execution_id
    if pause:
        assert (await outcome(call)).state == common_pb2.STATE_SUCCEEDED
    assert len(done(house, key)) == 1


async def test_a_refused_call_may_be_corrected_under_its_name(stub: Any, house: House, key: str) -> None:
    wrong = execute_request("acting.act", {"key": 1}, request_id=key)
    assert (await fails(stub, wrong)).reason == "INVALID_ARGUMENTS"
    unknown = execute_request("acting.nothing", {}, request_id=key)
    assert (await fails(stub, unknown)).reason == "TOOL_NOT_FOUND"
    assert (await answered(stub, acting(key))).state == common_pb2.STATE_SUCCEEDED
    assert len(done(house, key)) == 1


async def test_a_call_that_never_got_a_worker_may_be_made_again(stub: Any, key: str) -> None:
    holding, _ = await watched(stub, execute_request("diagnostics.block", {"seconds": 1.5}))
    queued = execute_request("diagnostics.block", {"seconds": 0.01}, request_id=key, timeout=0.3)
    told = await fails(stub, queued)
    assert (told.code, told.metadata["outcome"]) == ("DEADLINE_EXCEEDED", "not_started")
    assert (await outcome(holding)).state == common_pb2.STATE_SUCCEEDED
    queued.call.ClearField("timeout")
    fresh = await answered(stub, queued)
    assert fresh.state == common_pb2.STATE_SUCCEEDED
    assert fresh.execution_id != told.metadata["execution_id"]


async def test_what_may_have_been_done_is_never_done_again(stub: Any, house: House, key: str) -> None:
    slow = acting(key, after=25, timeout=0.5)
    late = await fails(stub, slow)
    assert (late.code, late.reason, late.metadata["outcome"]) == ("DEADLINE_EXCEEDED", "TOOL_TIMEOUT", "unknown")
    slow.call.timeout.FromSeconds(20)
    for _ in range(2):
        told = await fails(stub, slow)
        assert (told.code, told.reason) == ("ABORTED", "OUTCOME_UNKNOWN")
        assert told.metadata["execution_id"] == late.metadata["execution_id"]
        assert (told.metadata["outcome"], told.metadata["first_reason"]) == ("unknown", "TOOL_TIMEOUT")
        assert told.retry_seconds is None
    assert len(done(house, key)) == 1


@pytest.mark.parametrize("leaving", [0, 1], ids=["the first", "the one that joined"])
async def test_a_caller_that_leaves_stops_nothing_while_another_waits(
    stub: Any, house: House, key: str, leaving: int
) -> None:
    callers = [await watched(stub, acting(key, after=1.0)) for _ in range(2)]
    assert callers[0][1] == callers[1][1]
    callers[leaving][0].cancel()
    assert (await outcome(callers[1 - leaving][0])).state == common_pb2.STATE_SUCCEEDED
    assert len(done(house, key)) == 1


async def test_the_last_caller_that_leaves_takes_the_call_along(stub: Any, house: House, key: str) -> None:
    callers = [await watched(stub, acting(key, after=25)) for _ in range(2)]
    await asyncio.to_thread(eventually, lambda: done(house, key))
    for call, _ in callers:
        call.cancel()
    ended = await asyncio.wait_for(outcome(waiting(stub, callers[0][1])), 10)
    assert ended.state == common_pb2.STATE_OUTCOME_UNKNOWN


async def test_a_joiner_that_is_detached_keeps_the_call_alive(stub: Any, house: House, key: str) -> None:
    callers = [await watched(stub, acting(key, after=1.0, detach_on_disconnect=detach)) for detach in (False, True)]
    for call, _ in callers:
        call.cancel()
    ended = await asyncio.wait_for(outcome(waiting(stub, callers[0][1])), 10)
    assert ended.state == common_pb2.STATE_SUCCEEDED
    assert len(done(house, key)) == 1


@contextlib.asynccontextmanager
async def left_while_it_is_recorded(server: LiveServer, stub: Any, request: Any) -> AsyncGenerator[None]:
    """A caller that has gone when its call's intent is kept."""
    lock = LockedFile(server.data_dir / DATABASE)
    before = len(cancelled(server))
    lock.begin(server)
    try:
        call = stub.Execute(request, timeout=SECONDS)
        sent = asyncio.ensure_future(call)
        await asyncio.to_thread(eventually, lambda: server.metric("toolwright_record_queue_length") > 0)
        sent.cancel()
        await asyncio.to_thread(eventually, lambda: len(cancelled(server)) > before)
        yield
    finally:
        lock.end(server)


def states(server: LiveServer, key: str) -> list[int]:
    """Of the executions under this name."""
    with stubs(server) as (execution, _):
        listed = tool_execution_pb2.ListExecutionsRequest(filter=f"request_id = {key}")
        return [row.state for row in execution.ListExecutions(listed, timeout=10).executions]


def cancelled(server: LiveServer) -> list[dict[str, Any]]:
    """Calls whose callers left, by the call log."""
    return [line for line in server.lines() if line["message"] == "call" and line["code"] == "CANCELLED"]


async def test_a_detached_call_goes_on_when_its_caller_leaves_while_it_is_recorded(
    stub: Any, server: LiveServer, house: House, key: str
) -> None:
    request = acting(key, detach_on_disconnect=True)
    async with left_while_it_is_recorded(server, stub, request):
        assert not done(house, key)
    await asyncio.to_thread(eventually, lambda: done(house, key))
    again = await answered(stub, request)
    assert again.state == common_pb2.STATE_SUCCEEDED
    assert len(done(house, key)) == 1


async def test_any_other_call_is_not_begun_when_its_caller_leaves_while_it_is_recorded(
    stub: Any, server: LiveServer, house: House, key: str
) -> None:
    request = acting(key)
    async with left_while_it_is_recorded(server, stub, request):
        pass
    await asyncio.to_thread(eventually, lambda: states(server, key) == [common_pb2.STATE_CANCELLED])
    assert not done(house, key)
    assert (await answered(stub, request)).state == common_pb2.STATE_SUCCEEDED
    assert len(done(house, key)) == 1
