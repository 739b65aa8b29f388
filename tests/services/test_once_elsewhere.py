"""A call of one server, asked for on another that shares the database: joined, watched, and cancelled where it runs."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from tests.counter import running_counter
from tests.databases import Postgres
from tests.live import LiveServer, eventually, execute_request
from tests.refused import Refused, unpacked
from tests.torture.housing import House
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

NAMES = ("one", "two")
CALLERS = 200
SECONDS = 30.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Generator[House]:
    folder = tmp_path_factory.mktemp("elsewhere")
    url = postgres.make_database()
    with running_counter(folder / "counter", url) as counter:
        yield House(folder, counter, url)


@pytest.fixture(scope="module")
def servers(house: House) -> Generator[list[LiveServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(house.life(name, TOOLWRIGHT_SERVER_ID=name)) for name in NAMES]


@pytest_asyncio.fixture
async def stubs(servers: list[LiveServer]) -> AsyncGenerator[list[Any]]:
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(each.address)) for each in servers]
        yield [tool_execution_pb2_grpc.ToolExecutionStub(channel) for channel in channels]


@pytest.fixture
def key() -> str:
    return uuid4().hex


def acting(key: str, after: float) -> Any:
    return execute_request("acting.act", {"key": key, "after": after}, request_id=key)


async def begun(stub: Any, request: Any) -> tuple[Any, str]:
    """A caller that is known to wait, and the id of what it waits for."""
    call = stub.ExecuteStream(tool_execution_pb2.ExecuteStreamRequest(call=request.call), timeout=SECONDS)
    first = await call.read()
    assert first.event.HasField("snapshot")
    return call, first.event.execution_id


async def outcome(call: Any) -> common_pb2.Execution:
    """How what a caller waits for has ended."""
    last = None
    while (answer := await call.read()) is not grpc.aio.EOF:
        last = answer
    assert last is not None
    return last.event.finished


async def told_by(stub: Any, execution_id: str) -> list[common_pb2.ExecutionEvent]:
    """All that WaitExecution tells."""
    request = tool_execution_pb2.WaitExecutionRequest(execution_id=execution_id)
    return [answer.event async for answer in stub.WaitExecution(request, timeout=SECONDS)]


async def fails(call: Any) -> Refused:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return unpacked(caught.value)


def done(house: House, key: str) -> list[bool | None]:
    """For each side effect of this key, whether its intent was in the database."""
    return [effect.intended for effect in house.counter.effects() if effect.key == key]


async def test_callers_of_both_servers_share_one_run(stubs: list[Any], house: House, key: str) -> None:
    request = acting(key, after=1.0)
    calls = [stubs[number % 2].Execute(request, timeout=SECONDS) for number in range(CALLERS)]
    rows = [answer.execution for answer in await asyncio.gather(*calls)]
    assert len({row.execution_id for row in rows}) == 1
    assert len({row.result.value_json for row in rows}) == 1
    assert {row.state for row in rows} == {common_pb2.STATE_SUCCEEDED}
    assert done(house, key) == [True]
    again = [(await stub.Execute(request, timeout=SECONDS)).execution for stub in stubs]
    assert {row.execution_id for row in again} == {rows[0].execution_id}
    assert done(house, key) == [True]


async def test_a_stream_that_joins_elsewhere_ends_with_the_outcome(stubs: list[Any], house: House, key: str) -> None:
    request = acting(key, after=1.0)
    _, execution_id = await begun(stubs[0], request)
    joined, joined_id = await begun(stubs[1], request)
    assert joined_id == execution_id
    assert (await outcome(joined)).state == common_pb2.STATE_SUCCEEDED
    assert done(house, key) == [True]


async def test_another_call_under_the_same_name_is_refused_elsewhere(stubs: list[Any], house: House, key: str) -> None:
    call, execution_id = await begun(stubs[0], acting(key, after=1.0))
    told = await fails(stubs[1].Execute(acting(key, after=2.0), timeout=SECONDS))
    assert (told.code, told.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert told.metadata["execution_id"] == execution_id
    call.cancel()


async def test_an_execution_is_watched_from_another_server_to_its_end(stubs: list[Any], key: str) -> None:
    _, execution_id = await begun(stubs[0], acting(key, after=1.0))
    events = await told_by(stubs[1], execution_id)
    assert events[0].snapshot.execution_id == execution_id
    assert events[0].snapshot.server_id == "one"
    assert events[-1].finished.state == common_pb2.STATE_SUCCEEDED
    assert [event.HasField("finished") for event in events] == [False] * (len(events) - 1) + [True]
    numbers = [event.sequence for event in events[1:]]
    assert numbers == sorted(set(numbers))


async def test_an_execution_is_cancelled_by_whichever_server_is_asked(stubs: list[Any], house: House, key: str) -> None:
    request = acting(key, after=25)
    _, execution_id = await begun(stubs[0], request)
    await asyncio.to_thread(eventually, lambda: done(house, key))
    watching = asyncio.create_task(told_by(stubs[1], execution_id))
    cancel = tool_execution_pb2.CancelExecutionRequest(execution_id=execution_id)
    told = await stubs[1].CancelExecution(cancel, timeout=SECONDS)
    assert told.execution.server_id == "one"
    # Twice is once.
    await stubs[1].CancelExecution(cancel, timeout=SECONDS)
    events = await asyncio.wait_for(watching, SECONDS)
    assert events[-1].finished.state == common_pb2.STATE_OUTCOME_UNKNOWN
    # One that has ended is answered as it is, wherever it ran.
    ended = await stubs[1].CancelExecution(cancel, timeout=SECONDS)
    assert ended.execution.state == common_pb2.STATE_OUTCOME_UNKNOWN
    refused = await fails(stubs[1].Execute(request, timeout=SECONDS))
    assert (refused.code, refused.reason) == ("ABORTED", "OUTCOME_UNKNOWN")
    assert refused.metadata["execution_id"] == execution_id
    assert done(house, key) == [True]


async def test_a_caller_elsewhere_whose_time_is_up_leaves_the_execution_alone(
    stubs: list[Any], house: House, key: str
) -> None:
    call, execution_id = await begun(stubs[0], acting(key, after=1.5))
    late = await fails(stubs[1].Execute(acting(key, after=1.5), timeout=0.5))
    assert late.code == "DEADLINE_EXCEEDED"
    assert (late.reason, late.metadata["execution_id"]) == ("CLIENT_DEADLINE", execution_id)
    assert (await outcome(call)).state == common_pb2.STATE_SUCCEEDED
    assert done(house, key) == [True]
