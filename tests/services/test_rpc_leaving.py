"""Callers that leave, and cancellations that nobody asked for, over real gRPC."""

import asyncio
import logging
from typing import Any

import grpc
import pytest

from toolwright.v1 import common_pb2
from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.rpc.call import RpcCall

from .rpc_serving import SECONDS, Hold, Playing, details, hang, read_all, refused, serving


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, but for gRPC's own noise when several of its event loops live in one process (grpc 25364)."""
    told = [record.getMessage() for record in caplog.records]
    return [line for line in told if "PollerCompletionQueue" not in line]


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["Execute", "ExecuteStream"])
async def test_a_cancellation_that_nobody_asked_for_is_answered_as_our_defect(method: str) -> None:
    async def trip(*_: Any) -> None:
        raise asyncio.CancelledError

    async with serving(Playing(Execute=trip, ExecuteStream=trip)) as there:
        if method == "Execute":
            error = await refused(there.stub.Execute(pb.ExecuteRequest()))
        else:
            error = await refused(read_all(there.stub.ExecuteStream(pb.ExecuteStreamRequest())))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert details(error)["ErrorInfo"].reason == "INTERNAL"
        assert await there.seen.outcomes(1) == [("INTERNAL", "INTERNAL")]


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["Execute", "WaitExecution"])
async def test_a_client_that_cancels_stops_its_service_and_is_recorded(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    hold = Hold()
    with caplog.at_level(logging.WARNING):
        async with serving(Playing(Execute=hold, WaitExecution=hold)) as there:
            call = there.raw(method)(b"", timeout=60) if method == "Execute" else there.raw_stream(method)(b"")
            await hold.arrived(1)
            call.cancel()
            assert await there.seen.outcomes(1) == [("CANCELLED", "CANCELLED")]
            assert there.server.gate.active == there.server.gate.working == 0
    assert ours(caplog) == []


@pytest.mark.asyncio
async def test_a_client_whose_time_is_up_is_recorded_as_such() -> None:
    async with serving(Playing(Execute=hang)) as there:
        await there.channel.channel_ready()
        error = await refused(there.stub.Execute(pb.ExecuteRequest(), timeout=1.0))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await there.seen.outcomes(1) == [("DEADLINE_EXCEEDED", "CLIENT_DEADLINE")]


@pytest.mark.asyncio
async def test_a_service_that_answers_a_client_that_left_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    hold = Hold()

    async def insist(request: Any, call: RpcCall) -> Any:
        try:
            return await hold(request, call)
        except asyncio.CancelledError:
            return pb.ExecuteResponse()

    async def complain(request: Any, call: RpcCall) -> Any:
        try:
            return await hold(request, call)
        except asyncio.CancelledError:
            raise ToolwrightError(Reason.CANCELLED, "was cancelled") from None

    with caplog.at_level(logging.WARNING):
        async with serving(Playing(Execute=insist, GetExecution=complain)) as there:
            calls = [there.stub.Execute(pb.ExecuteRequest()), there.stub.GetExecution(pb.GetExecutionRequest())]
            await hold.arrived(2)
            for call in calls:
                call.cancel()
            assert sorted(await there.seen.outcomes(2)) == [("CANCELLED", "CANCELLED"), ("OK", "")]
            hold.go.set()
            hold.answer = pb.ExecuteResponse()
            await there.stub.Execute(pb.ExecuteRequest())
    assert ours(caplog) == []


@pytest.mark.asyncio
async def test_a_reader_that_stalls_and_leaves_frees_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    stuck = asyncio.Event()
    message = pb.ExecuteStreamResponse(event=common_pb2.ExecutionEvent(execution_id="x" * 1_000_000))

    async def flood(request: Any, call: RpcCall, write: Any) -> None:
        while True:
            writing = asyncio.ensure_future(write(message))
            done, _ = await asyncio.wait({writing}, timeout=0.5)
            if not done:
                stuck.set()
            await writing

    with caplog.at_level(logging.WARNING):
        async with serving(Playing(ExecuteStream=flood)) as there:
            call = there.stub.ExecuteStream(pb.ExecuteStreamRequest())
            await call.read()
            await asyncio.wait_for(stuck.wait(), SECONDS)
            call.cancel()
            assert await there.seen.outcomes(1) == [("CANCELLED", "CANCELLED")]
            assert there.server.gate.active == 0
    assert ours(caplog) == []


@pytest.mark.asyncio
async def test_a_reader_whose_time_is_up_while_a_write_waits_frees_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    message = pb.ExecuteStreamResponse(event=common_pb2.ExecutionEvent(execution_id="x" * 1_000_000))

    async def flood(request: Any, call: RpcCall, write: Any) -> None:
        while True:
            await write(message)

    with caplog.at_level(logging.WARNING):
        async with serving(Playing(ExecuteStream=flood)) as there:
            call = there.stub.ExecuteStream(pb.ExecuteStreamRequest(), timeout=0.5)
            await call.read()
            # gRPC may fail the write before it cancels the call: both are the same news.
            ((code, _),) = await there.seen.outcomes(1)
            assert code in ("CANCELLED", "DEADLINE_EXCEEDED")
            assert there.server.gate.active == 0
            call.cancel()
    assert ours(caplog) == []


@pytest.mark.asyncio
async def test_many_calls_that_leave_take_nothing_with_them() -> None:
    hold = Hold()
    async with serving(Playing(Execute=hold)) as there:
        for _ in range(5):
            calls = [there.stub.Execute(pb.ExecuteRequest()) for _ in range(100)]
            await hold.arrived(100)
            for call in calls:
                call.cancel()
        await there.seen.outcomes(500)
        assert there.server.gate.active == 0
