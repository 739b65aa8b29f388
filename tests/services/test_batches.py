"""BatchExecute of one real server over real gRPC: how each call fares, what the deadline keeps, and large answers."""

import asyncio
import json
from collections import Counter as Tally
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from tests.counter import Counter, running_counter
from tests.live import ALL_TOOLKITS, TRACED, LiveServer, eventually, live_server
from tests.refused import unpacked
from tests.torture.housing import TOOLS
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_client import AsyncClient, Call, RateLimited
from toolwright_server.telemetry.span_file import FILE_NAME

pytestmark = pytest.mark.asyncio

SECONDS = 30.0
MINE = '''
from toolwright_server import AsyncToolContext, Effect, ToolError, tool


@tool("mine.large", effect=Effect.READ_ONLY)
async def large(size: int) -> str:
    """Answers a text of that length."""
    return "x" * size


@tool("mine.secret", effect=Effect.READ_ONLY, keep_result=False)
async def secret(size: int) -> str:
    """The same; its result is kept nowhere."""
    return "x" * size


@tool("mine.outer", effect=Effect.READ_ONLY)
async def outer(context: AsyncToolContext, number: int) -> dict[str, int]:
    """Makes a call in turn."""
    return await context.call("diagnostics.echo", {"number": number})


@tool("mine.fails", effect=Effect.READ_ONLY)
async def fails() -> None:
    """Fails."""
    raise ToolError("no such mail")
'''
LIMITS = """
[[rule]]
name = "three"
per = "user+tool"
tool = "diagnostics.echo"
window_seconds = 0.4
limit = 3
user = "limited"
tenant = "default"
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Generator[Counter]:
    with running_counter(tmp_path_factory.mktemp("counter")) as counter:
        yield counter


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, counter: Counter) -> Generator[LiveServer]:
    folder = tmp_path_factory.mktemp("batches")
    (folder / "mine.py").write_text(MINE)
    (folder / "limits.toml").write_text((Path(__file__).parents[1] / "limits.toml").read_text() + LIMITS)
    settings = {
        **ALL_TOOLKITS,
        **TRACED,
        "COUNTER_SOCKET": str(counter.socket),
        "TOOLWRIGHT_LIMITS_FILE": str(folder / "limits.toml"),
        "TOOLWRIGHT_PROCESS_WORKERS": "1",
        # Large values are what an answer may have no room for: here none is an artifact.
        "TOOLWRIGHT_RESULT_INLINE_LIMIT_BYTES": str(4 << 20),
        "OTEL_TRACES_SAMPLER": "always_on",
    }
    with live_server(folder, "--tools", str(TOOLS), "--tools", str(folder / "mine.py"), env=settings) as running:
        yield running


@pytest_asyncio.fixture
async def stub(server: LiveServer) -> AsyncGenerator[Any]:
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", 16 << 20)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        yield tool_execution_pb2_grpc.ToolExecutionStub(channel)


def call(tool: str, arguments: Any = None, **fields: Any) -> common_pb2.ToolCall:
    return common_pb2.ToolCall(tool=tool, arguments_json=json.dumps(arguments or {}), **fields)


def batch(*calls: common_pb2.ToolCall, **fields: Any) -> tool_execution_pb2.BatchExecuteRequest:
    return tool_execution_pb2.BatchExecuteRequest(calls=calls, **fields)


def acting(key: str, **pauses: float) -> common_pb2.ToolCall:
    return call("acting.act", {"key": key, **pauses}, request_id=key)


def done(counter: Counter, key: str) -> int:
    return sum(effect.key == key for effect in counter.effects())


async def test_each_call_fares_as_it_would_alone(stub: Any, server: LiveServer) -> None:
    answer = await stub.BatchExecute(
        batch(
            call("diagnostics.echo", {"n": 1}, session_id="s", labels={"k": "v"}),
            call("diagnostics.crash"),
            call("nowhere.to.be.found"),
            call("crm.contact.create", {"name": 1}),
            call("mine.fails"),
            call("mine.outer", {"number": 7}),
        ),
        timeout=SECONDS,
    )
    rows = answer.executions
    assert [common_pb2.State.Name(row.state).removeprefix("STATE_") for row in rows] == [
        "SUCCEEDED",
        "FAILED",
        "REJECTED",
        "REJECTED",
        "FAILED",
        "SUCCEEDED",
    ]
    assert [row.error.reason for row in rows] == [
        "",
        "TOOL_CRASHED",
        "TOOL_NOT_FOUND",
        "INVALID_ARGUMENTS",
        "TOOL_FAILED",
        "",
    ]
    assert (rows[0].session_id, dict(rows[0].labels), rows[0].result.value_json) == ("s", {"k": "v"}, '{"n":1}')
    assert {violation.field for violation in rows[3].error.violations} == {"name", "email"}
    assert json.loads(rows[5].result.value_json) == {"number": 7}
    assert len({row.trace_id for row in rows}) == 1
    # Each has a line in the log, the refused ones as well.
    await asyncio.to_thread(eventually, lambda: len(_logged(server, rows[0].trace_id)) == 7)
    logged = Tally((line["code"], line["reason"]) for line in _logged(server, rows[0].trace_id))
    assert logged["NOT_FOUND", "TOOL_NOT_FOUND"] == 1
    assert logged["OK", ""] == 5


def _logged(server: LiveServer, trace_id: str) -> list[dict[str, Any]]:
    return [line for line in server.lines() if line["message"] == "call" and line["trace_id"] == trace_id]


async def test_the_deadline_cuts_a_batch_and_what_was_done_is_kept(stub: Any, counter: Counter) -> None:
    keys = [uuid4().hex for _ in range(30)]
    # Ten at a time: the first ten are quick, the next ten would take long, and the last ten have no time left.
    calls = [acting(key, after=30 if 10 <= number < 20 else 0) for number, key in enumerate(keys)]
    rows = (await stub.BatchExecute(batch(*calls), timeout=1)).executions
    assert [row.request_id for row in rows] == keys
    assert {row.error.reason for row in rows} == {"", "CLIENT_DEADLINE"}
    states = [common_pb2.State.Name(row.state).removeprefix("STATE_") for row in rows]
    assert states == ["SUCCEEDED"] * 10 + ["OUTCOME_UNKNOWN"] * 10 + ["REJECTED"] * 10
    assert {row.error.metadata["outcome"] for row in rows[20:]} == {"not_started"}
    assert [done(counter, key) for key in keys] == [1] * 20 + [0] * 10
    # Who asks again gets the first answers, and what was not begun is done now.
    again = (await stub.BatchExecute(batch(*calls), timeout=SECONDS)).executions
    assert [(row.execution_id, row.result) for row in again[:10]] == [
        (row.execution_id, row.result) for row in rows[:10]
    ]
    assert [(row.error.reason, row.execution_id) for row in again[10:20]] == [
        ("OUTCOME_UNKNOWN", row.execution_id) for row in rows[10:20]
    ]
    assert {row.state for row in again[20:]} == {common_pb2.STATE_SUCCEEDED}
    assert [done(counter, key) for key in keys] == [1] * 30


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (batch(), "calls"),
        (batch(*[call("diagnostics.echo")] * 101), "calls"),
        (batch(call("diagnostics.echo"), max_parallel=101), "max_parallel"),
        (batch(*[call("diagnostics.echo", request_id="r")] * 2), "calls[1].request_id"),
    ],
)
async def test_a_malformed_batch_is_refused_as_a_whole(stub: Any, request_: Any, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.BatchExecute(request_, timeout=SECONDS)
    refused = unpacked(caught.value)
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert field in refused.message


async def test_whoever_cancels_a_batch_stops_it_but_for_what_is_detached(stub: Any, counter: Counter) -> None:
    keys = [uuid4().hex for _ in range(3)]
    gone, detached, never = (acting(key, after=0.3) for key in keys)
    detached.detach_on_disconnect = True
    pending = stub.BatchExecute(batch(gone, detached, never, max_parallel=2), timeout=SECONDS)
    await asyncio.to_thread(eventually, lambda: done(counter, keys[0]) and done(counter, keys[1]))
    pending.cancel()
    outcomes: dict[str, int] = {}
    for key in keys[:2]:
        got = await stub.GetExecution(tool_execution_pb2.GetExecutionRequest(request_id=key), timeout=SECONDS)
        asked = tool_execution_pb2.WaitExecutionRequest(execution_id=got.execution.execution_id)
        async for message in stub.WaitExecution(asked, timeout=SECONDS):
            outcomes[key] = message.event.finished.state
    assert outcomes == {keys[0]: common_pb2.STATE_OUTCOME_UNKNOWN, keys[1]: common_pb2.STATE_SUCCEEDED}
    assert done(counter, keys[2]) == 0


async def test_results_that_do_not_fit_are_left_out_and_can_be_looked_up(stub: Any, server: LiveServer) -> None:
    sizes = [3_000_000, 3_100_000, 3_200_000, 3_300_000, 3_400_000, 3_500_000]
    calls = [call("mine.large", {"size": size}, request_id=uuid4().hex) for size in sizes]
    calls.append(call("mine.secret", {"size": 3_600_000}))
    answer = await stub.BatchExecute(batch(*calls), timeout=SECONDS)
    rows = answer.executions
    left_out = [row.error.reason == "PAYLOAD_TOO_LARGE" for row in rows]
    # The largest that can be looked up; the largest of all cannot.
    assert left_out == [False, False, False, False, True, True, False]
    assert {row.state for row in rows} == {common_pb2.STATE_SUCCEEDED}
    for row, size in zip(rows, sizes, strict=False):
        asked = tool_execution_pb2.GetExecutionRequest(execution_id=row.execution_id)
        kept = (await stub.GetExecution(asked, timeout=SECONDS)).execution.result
        assert len(kept.value_json) == size + 2
    async with AsyncClient(server.address) as client:
        results = await client.batch([Call("mine.large", {"size": size}) for size in sizes])
    assert [len(result.value) for result in results] == sizes


async def test_calls_beyond_a_limit_are_refused_one_by_one_and_the_client_makes_them_again(
    stub: Any, server: LiveServer
) -> None:
    limited = [call("diagnostics.echo", {"n": n}, user_id="limited") for n in range(5)]
    rows = (await stub.BatchExecute(batch(*limited), timeout=SECONDS)).executions
    assert [row.error.reason for row in rows] == ["", "", "", "RATE_LIMITED", "RATE_LIMITED"]
    assert rows[3].error.retryable
    assert 0 < rows[3].error.retry_delay.ToNanoseconds() <= 4e8
    assert (rows[3].user_id, rows[3].execution_id) == ("limited", "")
    async with AsyncClient(server.address) as client:
        results = await client.batch([Call("diagnostics.echo", {"n": n}, user_id="limited") for n in range(5)])
        assert [result.value for result in results] == [{"n": n} for n in range(5)]
        impatient = await client.batch(
            [Call("diagnostics.echo", {"n": n}, user_id="limited") for n in range(5)], timeout=0.1
        )
    assert {type(result.error) for result in impatient if not result.ok} == {RateLimited}


async def test_spans_of_the_calls_are_children_of_the_rpcs(stub: Any, server: LiveServer) -> None:
    answer = await stub.BatchExecute(batch(*[call("diagnostics.echo")] * 3), timeout=SECONDS)
    trace_id = answer.executions[0].trace_id

    def spans() -> list[dict[str, Any]]:
        lines = (server.data_dir / FILE_NAME).read_text().splitlines()
        return [json.loads(line) for line in lines if trace_id in line]

    await asyncio.to_thread(eventually, lambda: len(spans()) == 4)
    [rpc] = [span for span in spans() if span["kind"] == "SERVER"]
    assert rpc["name"] == "toolwright.v1.ToolExecution/BatchExecute"
    assert {span["parent_span_id"] for span in spans() if span["kind"] != "SERVER"} == {rpc["span_id"]}
    assert {span["attributes"].get("gen_ai.tool.call.id") for span in spans()} == {
        None,
        *(row.execution_id for row in answer.executions),
    }
