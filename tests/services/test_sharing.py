"""Answers that calls share, over gRPC: calls of the tool are counted outside, in a process of their own."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from tests.counter import Counter, running_counter
from tests.live import LiveServer, eventually, execute_request, live_server
from tests.valkeys import Server
from toolwright.v1 import common_pb2, tool_catalog_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_client import AsyncClient, Source, State

pytestmark = pytest.mark.asyncio

TOOLS = str(Path(__file__).with_name("sharing_tools.py"))
CALLERS = 1_000
SECONDS = 30.0


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Generator[Counter]:
    with running_counter(tmp_path_factory.mktemp("counter")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, counter: Counter, valkey: Server) -> Generator[LiveServer]:
    valkey.run("FLUSHALL")
    settings = {
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_CONCURRENT_CALLS_LIMIT": str(2 * CALLERS),
        "TOOLWRIGHT_PROCESS_WORKERS": "1",
        "TOOLWRIGHT_REDIS_URL": valkey.url,
        "TOOLWRIGHT_REDIS_TIMEOUT_MILLISECONDS": "10000",
        "COUNTER_SOCKET": str(counter.socket),
    }
    with live_server(tmp_path_factory.mktemp("sharing"), "--tools", TOOLS, env=settings) as running:
        yield running


@pytest_asyncio.fixture
async def stub(server: LiveServer) -> AsyncGenerator[Any]:
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        yield tool_execution_pb2_grpc.ToolExecutionStub(channel)


@pytest_asyncio.fixture
async def client(server: LiveServer) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(server.address, timeout=SECONDS) as connected:
        yield connected


@dataclass(frozen=True, slots=True)
class Held:
    """Calls of `sharing.joined` that stay where they are until `open`."""

    key: str
    gate: Path
    counter: Counter

    def call(self, **facts: Any) -> Any:
        return execute_request("sharing.joined", {"key": self.key, "gate": str(self.gate)}, **facts)

    def open(self) -> None:
        self.gate.touch()

    def begun(self) -> int:
        """How often the tool was called."""
        return sum(effect.key == f"{self.key}-begun" for effect in self.counter.effects())

    def done(self) -> int:
        """How often it came to its end."""
        return sum(effect.key == self.key for effect in self.counter.effects())


@pytest.fixture
def key() -> str:
    return uuid4().hex


@pytest.fixture
def held(counter: Counter, key: str, tmp_path: Path) -> Held:
    return Held(key, tmp_path / "gate", counter)


@pytest.fixture
def calls(counter: Counter, key: str) -> Callable[[], int]:
    """How often one of the other tools was called for the key."""
    return lambda: sum(effect.key == key for effect in counter.effects())


async def answered(stub: Any, request: Any) -> common_pb2.Execution:
    return (await stub.Execute(request, timeout=SECONDS)).execution


async def watched(stub: Any, request: Any) -> Any:
    """A caller whose execution is known to be there."""
    call = stub.ExecuteStream(tool_execution_pb2.ExecuteStreamRequest(call=request.call), timeout=SECONDS)
    assert (await call.read()).event.HasField("snapshot")
    return call


async def outcome(call: Any) -> common_pb2.Execution:
    last = None
    with contextlib.suppress(grpc.aio.AioRpcError):
        while (answer := await call.read()) is not grpc.aio.EOF:
            last = answer
    assert last is not None
    return last.event.finished


async def running(server: LiveServer, count: int) -> None:
    """Wait until so many executions run."""
    await asyncio.to_thread(eventually, lambda: server.metric("toolwright_executions_running") == count, SECONDS)


@pytest.mark.timeout(120)
async def test_a_thousand_calls_of_the_same_call_the_tool_once(stub: Any, held: Held, server: LiveServer) -> None:
    asked = [held.call(request_id=uuid4().hex if number % 2 else "") for number in range(CALLERS)]
    answers = [asyncio.ensure_future(answered(stub, each)) for each in asked]
    await running(server, CALLERS)
    held.open()
    rows = await asyncio.gather(*answers)
    assert (held.begun(), held.done()) == (1, 1)
    assert len({row.execution_id for row in rows}) == CALLERS
    assert len({row.result.value_json for row in rows}) == 1
    sources = [row.result.source for row in rows]
    assert sources.count(common_pb2.RESULT_SOURCE_TOOL) == 1
    assert sources.count(common_pb2.RESULT_SOURCE_JOINED) == CALLERS - 1


@pytest.mark.parametrize("who", [0, 1], ids=["the-first", "another"])
async def test_one_who_leaves_does_not_cancel_the_others(stub: Any, held: Held, who: int) -> None:
    callers = [await watched(stub, held.call()) for _ in range(3)]
    callers.pop(who).cancel()
    # Whatever it did is done: the server answers one rpc after the other.
    await answered(stub, execute_request("diagnostics.echo", {"value": 1}))
    held.open()
    rows = [await outcome(each) for each in callers]
    assert [row.state for row in rows] == [common_pb2.STATE_SUCCEEDED] * 2
    assert (held.begun(), held.done()) == (1, 1)


async def test_the_last_one_who_leaves_takes_the_call_along(stub: Any, held: Held, server: LiveServer) -> None:
    callers = [await watched(stub, held.call()) for _ in range(3)]
    await asyncio.to_thread(eventually, lambda: held.begun() == 1)
    for each in callers:
        each.cancel()
    await running(server, 0)
    held.open()
    # A later one makes its own call; the first one, had it gone on, would have come to its end before.
    await answered(stub, held.call())
    assert (held.begun(), held.done()) == (2, 1)


async def test_another_users_call_is_not_joined(stub: Any, held: Held, server: LiveServer) -> None:
    answers = [asyncio.ensure_future(answered(stub, held.call(user_id=user))) for user in ("ada", "bob", "ada")]
    await running(server, 3)
    held.open()
    rows = await asyncio.gather(*answers)
    assert held.done() == 2
    assert sorted(row.result.source for row in rows) == [
        common_pb2.RESULT_SOURCE_TOOL,
        common_pb2.RESULT_SOURCE_TOOL,
        common_pb2.RESULT_SOURCE_JOINED,
    ]


async def test_the_deadline_of_the_first_is_its_own(stub: Any, held: Held) -> None:
    hasty = await watched(stub, held.call(timeout=0.2))
    patient = await watched(stub, held.call())
    assert (await outcome(hasty)).state == common_pb2.STATE_TIMED_OUT
    held.open()
    row = await outcome(patient)
    assert (row.state, row.result.source) == (common_pb2.STATE_SUCCEEDED, common_pb2.RESULT_SOURCE_JOINED)
    assert (held.begun(), held.done()) == (2, 1)


async def test_a_joined_stream_tells_how_it_stands_and_how_it_ended(stub: Any, held: Held) -> None:
    first = await watched(stub, held.call())
    second = stub.ExecuteStream(tool_execution_pb2.ExecuteStreamRequest(call=held.call().call), timeout=SECONDS)
    snapshot = (await second.read()).event
    assert snapshot.snapshot.state == common_pb2.STATE_QUEUED
    held.open()
    events: list[Any] = []
    while (answer := await second.read()) is not grpc.aio.EOF:
        events.append(answer.event)
    assert [event.WhichOneof("event") for event in events] == ["state_change", "finished"]
    finished = events[-1].finished
    assert finished.source_execution_id == (await outcome(first)).execution_id
    assert (finished.usage.attempts, finished.HasField("start_time")) == (0, False)


async def test_a_kept_answer_says_since_when_and_from_where(
    client: AsyncClient, key: str, calls: Callable[[], int], valkey: Server
) -> None:
    first = (await client.execute("sharing.kept", {"key": key})).execution
    again = (await client.execute("sharing.kept", {"key": key})).execution
    assert (first.source, again.source, again.value) == (Source.TOOL, Source.CACHE, first.value)
    assert first.end_time is not None
    assert again.cached_time is not None
    assert abs((again.cached_time - first.end_time).total_seconds()) < 0.001
    assert (again.source_execution_id, again.usage.cost_micros) == (first.execution_id, 0)
    looked_up = await client.get(again.execution_id)
    assert (looked_up.source, looked_up.cached_time, looked_up.state) == (
        Source.CACHE,
        again.cached_time,
        State.SUCCEEDED,
    )
    assert calls() == 1
    assert valkey.run("KEYS", "tw:result:*")


async def test_a_call_says_whether_it_wants_what_was_kept(
    client: AsyncClient, key: str, calls: Callable[[], int]
) -> None:
    async def value(mode: Any = "default") -> tuple[Source, Any]:
        row = (await client.execute("sharing.kept", {"key": key}, cache_mode=mode)).execution
        return row.source, row.value

    _, first = await value()
    source, second = await value("refresh")
    assert (source, second != first) == (Source.TOOL, True)
    assert await value() == (Source.CACHE, second)
    source, third = await value("bypass")
    assert (source, third != second) == (Source.TOOL, True)
    assert await value() == (Source.CACHE, second)
    assert calls() == 3
    with pytest.raises(ValueError, match="cache_mode"):
        await value("sometimes")


async def test_a_mode_that_is_not_known_is_refused(stub: Any, key: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answered(stub, execute_request("sharing.kept", {"key": key}, cache_mode=99))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_secret_stays_in_the_server(
    client: AsyncClient, key: str, calls: Callable[[], int], valkey: Server
) -> None:
    before = set(valkey.run("KEYS", "*result*"))
    first = await client.execute("sharing.secret", {"key": key})
    again = await client.execute("sharing.secret", {"key": key})
    assert (again.value, again.execution.source, calls()) == (first.value, Source.CACHE, 1)
    assert set(valkey.run("KEYS", "*result*")) == before
    looked_up = await client.get(again.execution_id)
    assert looked_up.value == {"word": "[redacted]"}


async def test_the_catalogue_and_the_metrics_tell(
    client: AsyncClient, stub: Any, server: LiveServer, held: Held
) -> None:
    policy = (await client.tool("sharing.kept")).raw.cache_policy
    assert (policy.ttl.seconds, policy.scope) == (60, tool_catalog_pb2.CACHE_SCOPE_USER)
    assert not (await client.tool("diagnostics.echo")).raw.HasField("cache_policy")

    def counted() -> dict[str, float]:
        name = "toolwright_cache_calls_total"
        return {how: server.metric(rf'{name}{{[^}}]*="{how}"[^}}]*}} ?') for how in ("hit", "miss", "joined")}

    before = counted()
    callers = [await watched(stub, held.call()) for _ in range(3)]
    held.open()
    for each in callers:
        await outcome(each)
    for _ in range(2):
        await client.execute("sharing.secret", {"key": held.key})
    after = counted()
    assert {how: after[how] - before[how] for how in after} == {"hit": 1, "miss": 2, "joined": 2}
    assert server.metric("toolwright_cache_entries") >= 1
    assert server.metric("toolwright_cache_size_bytes") > 0
    assert server.metric("toolwright_cache_store_up") == 1
