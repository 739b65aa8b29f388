"""A drain over real gRPC: health first, then no new calls, nothing accepted is lost, and it always ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from toolwright.v1 import common_pb2
from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.drain import Drain, Drained

from .rpc_serving import SECONDS, Hold, Playing, Serving, details, hang, read_all, refused, serving, trailers

LONG = 3600.0
"""Longer than the test may take: what is bounded by it must end for another reason."""


async def _nothing() -> None:
    return None


def _draining(
    there: Serving,
    *,
    notice_seconds: float = 0,
    grace_seconds: float = LONG,
    cancel: Callable[[], Awaitable[object]] = _nothing,
    settled: Callable[[], Awaitable[object]] | None = None,
    last_words_seconds: float = SECONDS,
    moment_seconds: float = 0.02,
) -> tuple[Drain, "asyncio.Task[Drained]", asyncio.Event]:
    """A drain that has begun, and an event for the moment from which on nothing new is let in."""
    drain = Drain(there.server, cancel, settled, last_words_seconds=last_words_seconds, moment_seconds=moment_seconds)
    closed = asyncio.Event()
    drain.on_drain.append(closed.set)
    return drain, asyncio.create_task(drain.run(notice_seconds, grace_seconds)), closed


async def _ended(task: "asyncio.Task[Drained]") -> Drained:
    return await asyncio.wait_for(task, SECONDS)


async def _health(there: Serving) -> int:
    stub: Any = health_pb2_grpc.HealthStub
    answer = await stub(there.channel).Check(health_pb2.HealthCheckRequest())
    return answer.status


@pytest.mark.asyncio
async def test_a_process_that_ends_alone_says_nothing_to_load_balancers() -> None:
    async with serving(Playing()) as there:
        drain = Drain(there.server, _nothing)
        task = asyncio.create_task(drain.run(LONG, LONG, announced=False))
        await asyncio.sleep(0)
        assert await _health(there) == health_pb2.HealthCheckResponse.SERVING
        drain.hurry()
        assert await _ended(task) == Drained(cancelled=0)


@pytest.mark.asyncio
async def test_a_server_with_nothing_to_do_ends_at_once() -> None:
    async with serving(Playing()) as there:
        _, task, _ = _draining(there)
        assert await _ended(task) == Drained(cancelled=0)


@pytest.mark.asyncio
async def test_health_flips_first_and_calls_are_served_during_the_notice() -> None:
    hold = Hold(pb.ExecuteResponse())
    hold.go.set()
    async with serving(Playing(Execute=hold)) as there:
        drain, task, closed = _draining(there, notice_seconds=LONG)
        await asyncio.sleep(0)
        assert await _health(there) == health_pb2.HealthCheckResponse.NOT_SERVING
        await there.stub.Execute(pb.ExecuteRequest())
        assert not closed.is_set()
        drain.hurry()
        assert await _ended(task) == Drained(cancelled=0)


@pytest.mark.asyncio
async def test_calls_that_grpc_has_taken_in_already_are_sent_elsewhere_even_in_a_hurry() -> None:
    async with serving(Playing(Execute=hang)) as there:
        await _health(there)
        calls = [there.stub.Execute(pb.ExecuteRequest()) for _ in range(200)]
        drain, task, _ = _draining(there, moment_seconds=0.3)
        drain.hurry()
        for error in await asyncio.gather(*map(refused, calls)):
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert details(error)["ErrorInfo"].reason == "SERVER_DRAINING"
        await _ended(task)


@pytest.mark.asyncio
async def test_running_calls_and_streams_are_answered_and_new_ones_are_sent_elsewhere() -> None:
    hold = Hold(pb.ExecuteResponse(execution=common_pb2.Execution(tool="done")))
    stream = Hold(pb.ExecuteStreamResponse(event=common_pb2.ExecutionEvent(sequence=7)))
    async with serving(Playing(Execute=hold, ExecuteStream=stream)) as there:
        calls = [there.stub.Execute(pb.ExecuteRequest()) for _ in range(200)]
        streams = [
            asyncio.ensure_future(read_all(there.stub.ExecuteStream(pb.ExecuteStreamRequest()))) for _ in range(50)
        ]
        await hold.arrived(200)
        await stream.arrived(50)
        _, task, closed = _draining(there)
        await closed.wait()
        error = await refused(there.stub.Execute(pb.ExecuteRequest()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        found = details(error)
        assert found["ErrorInfo"].reason == "SERVER_DRAINING"
        assert found["ErrorInfo"].metadata["outcome"] == "not_started"
        assert found["RetryInfo"].retry_delay.ToMilliseconds() == int(str(trailers(error)["grpc-retry-pushback-ms"]))
        assert await _health(there) == health_pb2.HealthCheckResponse.NOT_SERVING
        hold.go.set()
        assert [(await call).execution.tool for call in calls] == ["done"] * 200
        assert not task.done(), "streams still run"
        stream.go.set()
        assert [[event.event.sequence for event in await read] for read in streams] == [[7]] * 50
        assert await _ended(task) == Drained(cancelled=0)


@pytest.mark.asyncio
async def test_streams_that_only_watch_hold_up_nothing_and_are_told_to_end() -> None:
    watch, hold = Hold(), Hold(pb.ExecuteResponse())
    async with serving(Playing(WaitExecution=watch, Execute=hold)) as there:
        streams = [
            asyncio.ensure_future(refused(read_all(there.stub.WaitExecution(pb.WaitExecutionRequest()))))
            for _ in range(20)
        ]
        call = there.stub.Execute(pb.ExecuteRequest())
        await watch.arrived(20)
        await hold.arrived(1)
        _, task, closed = _draining(there)
        await closed.wait()
        assert not any(stream.done() for stream in streams), "they may yet see what they wait for"
        hold.go.set()
        await call
        for stream in streams:
            error = await stream
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert details(error)["ErrorInfo"].reason == "SERVER_DRAINING"
            assert "outcome" not in details(error)["ErrorInfo"].metadata
        assert await _ended(task) == Drained(cancelled=0)
        assert set(await there.seen.outcomes(21)) == {("OK", ""), ("UNAVAILABLE", "SERVER_DRAINING")}


@pytest.mark.asyncio
async def test_a_watching_stream_that_sees_its_end_in_time_ends_well() -> None:
    watch = Hold(pb.WaitExecutionResponse(event=common_pb2.ExecutionEvent(sequence=3)))
    hold = Hold(pb.ExecuteResponse())
    async with serving(Playing(WaitExecution=watch, Execute=hold)) as there:
        stream = asyncio.ensure_future(read_all(there.stub.WaitExecution(pb.WaitExecutionRequest())))
        call = there.stub.Execute(pb.ExecuteRequest())
        await watch.arrived(1)
        await hold.arrived(1)
        _, task, closed = _draining(there)
        await closed.wait()
        watch.go.set()
        assert [answer.event.sequence for answer in await stream] == [3]
        hold.go.set()
        await call
        assert await _ended(task) == Drained(cancelled=0)


@pytest.mark.asyncio
async def test_work_without_a_caller_is_waited_for() -> None:
    settled = asyncio.Event()
    async with serving(Playing()) as there:
        _, task, closed = _draining(there, settled=settled.wait)
        await closed.wait()
        await asyncio.sleep(0)
        assert not task.done()
        settled.set()
        assert await _ended(task) == Drained(cancelled=0)


@pytest.mark.asyncio
async def test_the_end_of_the_grace_cancels_the_work_and_its_callers_are_told() -> None:
    hold = Hold()
    stop = asyncio.Event()

    async def serve(request: Any, call: RpcCall) -> None:
        holding = asyncio.ensure_future(hold(request, call))
        await stop.wait()
        holding.cancel()
        raise ToolwrightError(Reason.CANCELLED, "the server is shutting down")

    async def cancel() -> None:
        stop.set()

    async with serving(Playing(Execute=serve)) as there:
        calls = [asyncio.ensure_future(refused(there.stub.Execute(pb.ExecuteRequest()))) for _ in range(10)]
        await hold.arrived(10)
        _, task, _ = _draining(there, grace_seconds=0.05, cancel=cancel)
        assert await _ended(task) == Drained(cancelled=10)
        for call in calls:
            error = await call
            assert error.code() is grpc.StatusCode.CANCELLED
            assert details(error)["ErrorInfo"].reason == "CANCELLED"


@pytest.mark.asyncio
async def test_a_second_signal_does_not_wait_for_the_grace() -> None:
    hold = Hold()
    cancelled = asyncio.Event()

    async def cancel() -> None:
        cancelled.set()
        hold.answer = pb.ExecuteResponse()
        hold.go.set()

    async with serving(Playing(Execute=hold)) as there:
        call = there.stub.Execute(pb.ExecuteRequest())
        await hold.arrived(1)
        drain, task, closed = _draining(there, notice_seconds=LONG, cancel=cancel)
        await asyncio.sleep(0)
        assert not closed.is_set()
        drain.hurry()
        assert await _ended(task) == Drained(cancelled=1)
        assert cancelled.is_set()
        await call


@pytest.mark.asyncio
async def test_work_that_cannot_be_stopped_does_not_hold_up_the_end() -> None:
    hold = Hold()
    async with serving(Playing(Execute=hold)) as there:
        call = asyncio.ensure_future(refused(there.stub.Execute(pb.ExecuteRequest())))
        await hold.arrived(1)
        _, task, _ = _draining(there, grace_seconds=0.05, cancel=hang, last_words_seconds=0.1)
        assert await _ended(task) == Drained(cancelled=1)
        assert (await call).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.asyncio
async def test_a_cancel_that_fails_still_ends_the_server(caplog: pytest.LogCaptureFixture) -> None:
    hold = Hold()

    async def fail() -> None:
        raise OSError("a store was gone")

    async with serving(Playing(Execute=hold)) as there:
        call = asyncio.ensure_future(refused(there.stub.Execute(pb.ExecuteRequest())))
        await hold.arrived(1)
        _, task, _ = _draining(there, grace_seconds=0.05, cancel=fail, last_words_seconds=0.1)
        assert await _ended(task) == Drained(cancelled=1)
        assert "a store was gone" in caplog.text
        await call


@pytest.mark.asyncio
async def test_open_health_watches_and_reflection_do_not_hold_up_the_end() -> None:
    async with serving(Playing()) as there:
        stub: Any = health_pb2_grpc.HealthStub
        watch = stub(there.channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        streaming: Any = there.channel.stream_stream
        reflection = streaming("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")()
        await reflection.write(b"\x3a\x00")
        await reflection.read()
        _, task, _ = _draining(there, last_words_seconds=0.1)
        assert await _ended(task) == Drained(cancelled=0)
