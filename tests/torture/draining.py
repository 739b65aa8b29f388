"""SIGTERM in the middle of calls and streams, and what their clients saw: used by the sample and by the long run."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.live import LiveServer, execute_request
from tests.refused import Refused, unpacked
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SECONDS = 60.0
# A connection for each channel, also of one address.
CHANNEL = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(slots=True)
class Drained:
    """`wrong`: one line for each accepted call or stream that was not answered as it should."""

    wrong: list[str] = field(default_factory=list[str])
    health: list[int] = field(default_factory=list[int])
    served_after_the_flip: int = 0
    refusal: Refused | None = None
    exit_code: int | None = None


async def drain(server: LiveServer, *, calls: int, streams: int, seconds: float, connections: int = 1) -> Drained:
    """`calls` and `streams` of about `seconds` each; when all run, SIGTERM; then whatever happens.

    They are spread over so many connections, on the first of which health is watched and calls are refused in the end.
    """
    found = Drained()
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options=CHANNEL))
            for _ in range(connections)
        ]
        stubs: list[Any] = [tool_execution_pb2_grpc.ToolExecutionStub(channel) for channel in channels]
        channel, stub = channels[0], stubs[0]
        flipped = asyncio.Event()
        watch = asyncio.create_task(_watch(channel, found, flipped))
        work = [asyncio.create_task(_call(stubs[n % connections], n, seconds)) for n in range(calls)]
        work += [asyncio.create_task(_stream(stubs[n % connections], n, seconds)) for n in range(streams)]
        await _until(lambda: server.metric("toolwright_executions_running") >= calls + streams)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(flipped.wait(), SECONDS)
        found.refusal = await _refused(stub, found)
        found.wrong = [line for line in await asyncio.wait_for(asyncio.gather(*work), SECONDS) if line]
        await asyncio.wait_for(watch, SECONDS)
    found.exit_code = await asyncio.to_thread(server.process.wait, SECONDS)
    return found


async def _call(stub: Any, number: int, seconds: float) -> str:
    request = _request(number, seconds)
    try:
        answer = await stub.Execute(request, timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        return f"call {number}: {unpacked(error).everything}"
    return _judged(f"call {number}", number, answer.execution)


async def _stream(stub: Any, number: int, seconds: float) -> str:
    request = tool_execution_pb2.ExecuteStreamRequest(call=_request(number, seconds).call)
    steps = last = 0
    event = None
    try:
        async for answer in stub.ExecuteStream(request, timeout=SECONDS):
            event = answer.event
            if event.WhichOneof("event") == "progress":
                steps += 1
            if event.sequence < last:
                return f"stream {number}: event {event.sequence} after {last}"
            last = event.sequence
    except grpc.aio.AioRpcError as error:
        return f"stream {number}: {unpacked(error).everything}"
    if event is None or event.WhichOneof("event") != "finished" or steps != _steps(number):
        return f"stream {number}: ended after {steps} of {_steps(number)} steps with {event}"
    return _judged(f"stream {number}", number, event.finished)


def _steps(number: int) -> int:
    return 5 + number % 20


def _request(number: int, seconds: float) -> Any:
    steps = _steps(number)
    request = execute_request("diagnostics.count", {"steps": steps, "interval_seconds": seconds / steps})
    request.call.labels["number"] = str(number)
    return request


def _judged(name: str, number: int, row: common_pb2.Execution) -> str:
    right = (
        row.state == common_pb2.STATE_SUCCEEDED
        and row.labels["number"] == str(number)
        and json.loads(row.result.value_json) == {"steps": _steps(number)}
    )
    return "" if right else f"{name}: {row}"


async def _watch(channel: Any, found: Drained, flipped: asyncio.Event) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS):
            found.health.append(answer.status)
            if answer.status == NOT_SERVING:
                flipped.set()
    except grpc.aio.AioRpcError:
        pass  # the server ends it


async def _refused(stub: Any, found: Drained) -> Refused:
    """Call until a call is refused; counts those that are still served."""
    while True:
        try:
            await stub.Execute(execute_request("diagnostics.echo"), timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            return unpacked(error)
        found.served_after_the_flip += 1
        await asyncio.sleep(0.05)


async def _until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(check):  # noqa: ASYNC110 (another process: there is no event)
            await asyncio.sleep(0.02)


def assert_nothing_was_lost(found: Drained) -> None:
    """What an orderly end promises to whoever was let in, and to whoever comes too late."""
    assert not found.wrong, "\n".join(found.wrong)
    assert found.health[0] == health_pb2.HealthCheckResponse.SERVING
    assert found.health[1:] == [NOT_SERVING]
    assert found.served_after_the_flip >= 1
    refusal = found.refusal
    assert refusal is not None
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "SERVER_DRAINING"), refusal.everything
    assert refusal.metadata["outcome"] == "not_started"
    assert refusal.retry_seconds is not None
    assert found.exit_code == 0
