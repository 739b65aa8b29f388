"""Streams of the client over real gRPC: typed events, unbroken across lost connections and slow reading."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client import (
    AsyncClient,
    ConnectionLost,
    DeadlineExceeded,
    ExecutionCancelled,
    ExecutionNotFound,
    Finished,
    InvalidArguments,
    Log,
    NotConnected,
    OutcomeUnknown,
    Output,
    Progress,
    RetryPolicy,
    Snapshot,
    State,
    StateChange,
    ToolFailed,
    ToolTimedOut,
    Warned,
    deadline,
)

from .client_server import (
    Context,
    Script,
    Scripted,
    event,
    execution,
    finished,
    progress,
    refuse,
    serving,
    snapshot,
    started,
)

Events = AsyncIterator[common_pb2.ExecutionEvent]
QUICK = RetryPolicy(initial_backoff_seconds=0.01, lost_seconds=2)


def plays(
    *events: common_pb2.ExecutionEvent, code: grpc.StatusCode | None = None, reason: str = "", **more: Any
) -> Script:
    """A stream of these events and then this status; a status without a reason has no details."""

    async def script(request: Any, context: Context) -> Events:
        for each in events:
            yield each
        if code is not None and reason:
            await refuse(context, code, reason, **more)
        elif code is not None:
            await context.abort(code, "Socket closed")

    return script


@pytest.mark.asyncio
async def test_every_kind_of_event_is_typed_and_heartbeats_stay_inside() -> None:
    everything = plays(
        snapshot(),
        event(
            1,
            state_change=common_pb2.StateChange(from_state=common_pb2.STATE_QUEUED, to_state=common_pb2.STATE_RUNNING),
        ),
        event(1, heartbeat=common_pb2.Heartbeat()),
        event(2, progress=common_pb2.Progress(progress=1, total=4, message="m")),
        event(3, output=common_pb2.Output(text="a")),
        event(4, output=common_pb2.Output(channel="stderr", data=b"b")),
        event(5, log=common_pb2.Log(level="info", text="line")),
        event(6, warning=common_pb2.Warning(reason="R", message="w")),
        finished(7),
    )
    script = Scripted()
    script.stream.append(everything)
    async with serving(script) as target, AsyncClient(target) as client:
        stream = client.stream("t", {"a": 1}, request_id="r")
        got = [each async for each in stream]
        result = await stream.result()
    assert [type(each) for each in got] == [Snapshot, StateChange, Progress, Output, Output, Log, Warned, Finished]
    assert [each.sequence for each in got] == [0, 1, 2, 3, 4, 5, 6, 7]
    change, step, text, data = got[1:5]
    assert isinstance(change, StateChange)
    assert isinstance(step, Progress)
    assert isinstance(text, Output)
    assert isinstance(data, Output)
    assert (change.before, change.now) == (State.QUEUED, State.RUNNING)
    assert (step.progress, step.total, step.message, step.raw.sequence) == (1, 4, "m", 2)
    assert (text.channel, text.chunk, data.channel, data.chunk) == ("output", "a", "stderr", b"b")
    assert (result.value, stream.execution_id, stream.request_id) == (42, "e-1", "r")


@pytest.mark.asyncio
async def test_an_outcome_is_data_in_the_stream_and_an_error_in_its_result() -> None:
    error = common_pb2.ExecutionError(code=4, reason="TOOL_TIMEOUT", message="too slow")
    late = execution("e-1", common_pb2.STATE_TIMED_OUT, error=error)
    broken = execution("e-1", common_pb2.STATE_FAILED, error=common_pb2.ExecutionError(reason="TOOL_FAILED"))
    script = Scripted()
    script.stream.append(
        plays(snapshot(), finished(1, late), code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="TOOL_TIMEOUT")
    )
    script.stream.append(plays(snapshot(), finished(1, broken)))
    async with serving(script) as target, AsyncClient(target) as client:
        stream = client.stream("t")
        got = [each async for each in stream]
        with pytest.raises(ToolTimedOut, match="too slow"):
            await stream.result()
        with pytest.raises(ToolFailed):
            await client.stream("t").result()
    assert isinstance(got[-1], Finished)
    assert got[-1].execution.state is State.TIMED_OUT


@pytest.mark.asyncio
async def test_a_refused_call_raises_from_the_stream() -> None:
    script = Scripted()
    script.stream.append(plays(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_ARGUMENTS"))
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(InvalidArguments):
            await anext(client.stream("t"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, ""),
        (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING"),
        (grpc.StatusCode.ABORTED, "SLOW_CONSUMER"),
    ],
)
async def test_a_broken_stream_goes_on_after_the_last_event_as_if_nothing_had_happened(
    code: grpc.StatusCode, reason: str
) -> None:
    script = Scripted()
    script.stream.append(plays(snapshot(), progress(1), progress(2), code=code, reason=reason))
    script.wait.append(plays(snapshot(2), progress(3), code=code, reason=reason))
    script.wait.append(plays(snapshot(3), progress(4), finished(5)))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        got = [each async for each in client.stream("t")]
    assert [each.sequence for each in got] == [0, 1, 2, 3, 4, 5]
    assert [type(each) for each in got].count(Snapshot) == 1
    asked = [(each.request.execution_id, each.request.after_sequence) for each in script.of("WaitExecution")]
    assert asked == [("e-1", 2), ("e-1", 3)]
    assert len(script.of("ExecuteStream")) == 1


@pytest.mark.asyncio
async def test_events_that_are_no_longer_kept_are_counted_and_not_hidden() -> None:
    expired = plays(code=grpc.StatusCode.OUT_OF_RANGE, reason="EVENTS_EXPIRED", first_sequence="9")
    script = Scripted()
    script.stream.append(plays(snapshot(), progress(1), code=grpc.StatusCode.UNAVAILABLE))
    script.wait.append(expired)
    script.wait.append(plays(snapshot(9), progress(9), finished(10)))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        got = [each async for each in client.stream("t")]
    assert [each.sequence for each in got] == [0, 1, 9, 9, 10]
    again = got[2]
    assert isinstance(again, Snapshot)
    assert again.missed_events == 7
    assert script.of("WaitExecution")[1].request.after_sequence == 8


@pytest.mark.asyncio
async def test_a_lost_start_is_begun_again_under_its_request_id() -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT})
    script.stream.append(plays(code=grpc.StatusCode.UNAVAILABLE))
    script.stream.append(plays(snapshot(1, "e-5"), finished(2, execution("e-5"))))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        result = await client.stream("t").result()
    first, second = (each.request.call for each in script.of("ExecuteStream"))
    assert result.execution_id == "e-5"
    assert first == second
    assert first.request_id


@pytest.mark.asyncio
async def test_a_stream_whose_server_died_begins_anew_where_that_does_no_harm() -> None:
    error = common_pb2.ExecutionError(code=13, reason="INTERNAL", message="the server ended", retryable=True)
    died = execution("e-1", common_pb2.STATE_FAILED, error=error)
    script = Scripted(effects={"t": common_pb2.EFFECT_READ_ONLY})
    script.stream.append(plays(snapshot(), progress(1), code=grpc.StatusCode.UNAVAILABLE))
    script.wait.append(plays(snapshot(1), finished(2, died)))
    script.stream.append(plays(snapshot(0, "e-2"), event(1, "e-2", finished=execution("e-2"))))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        got = [each async for each in client.stream("t")]
    assert [each.execution_id for each in got] == ["e-1", "e-1", "e-2", "e-2"]
    assert len({each.request.call.request_id for each in script.of("ExecuteStream")}) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("effect", "starts"), [(common_pb2.EFFECT_SIDE_EFFECT, 1), (common_pb2.EFFECT_READ_ONLY, 2)])
async def test_a_server_that_forgot_the_execution_gets_it_again_only_when_it_may_be_repeated(
    effect: int, starts: int
) -> None:
    script = Scripted(effects={"t": effect})
    script.stream.append(plays(snapshot(), progress(1), code=grpc.StatusCode.UNAVAILABLE))
    script.wait.append(plays(code=grpc.StatusCode.NOT_FOUND, reason="RESOURCE_NOT_FOUND"))
    script.stream.append(plays(snapshot(0, "e-2"), finished(1, execution("e-2"))))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        stream = client.stream("t")
        if starts == 1:
            with pytest.raises(OutcomeUnknown, match="e-1"):
                await stream.result()
        else:
            assert (await stream.result()).execution_id == "e-2"
    assert len(script.of("ExecuteStream")) == starts


@pytest.mark.asyncio
async def test_a_stream_that_breaks_all_the_time_is_given_up() -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_READ_ONLY})
    script.stream.append(plays(snapshot(), progress(1), code=grpc.StatusCode.UNAVAILABLE))
    script.wait.extend([plays(code=grpc.StatusCode.UNAVAILABLE)] * 9)
    policy = RetryPolicy(initial_backoff_seconds=0.01, lost_seconds=0)
    async with serving(script) as target, AsyncClient(target, retries=policy) as client:
        with pytest.raises(ConnectionLost):
            await client.stream("t").result()
    assert len(script.of("WaitExecution")) == 4


@pytest.mark.asyncio
async def test_leaving_a_stream_early_tells_the_server() -> None:
    stopped = asyncio.Event()

    async def endless(request: Any, context: Context) -> Events:
        try:
            yield snapshot()
            await asyncio.Event().wait()
        finally:
            stopped.set()

    script = Scripted()
    script.stream.extend([endless, endless])
    async with serving(script) as target, AsyncClient(target) as client:
        async with client.stream("t") as stream:
            assert isinstance(await anext(stream), Snapshot)
        await asyncio.wait_for(stopped.wait(), 5)
        stopped.clear()
        reading = asyncio.create_task(client.stream("t").result())
        while len(script.of("ExecuteStream")) < 2:
            await asyncio.wait({reading}, timeout=0.02)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(stopped.wait(), 5)
        with pytest.raises(RuntimeError, match="closed before it ended"):
            await stream.result()


@pytest.mark.asyncio
async def test_a_streams_deadline_holds_across_its_parts() -> None:
    async def silent(request: Any, context: Context) -> Events:
        yield snapshot()
        await asyncio.Event().wait()

    script = Scripted()
    script.stream.append(plays(snapshot(), code=grpc.StatusCode.UNAVAILABLE))
    script.wait.append(silent)
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(client.stream("t", timeout=0.5).result(), 5)
    assert (script.of("WaitExecution")[0].remaining or 9) <= 0.52


@pytest.mark.asyncio
async def test_started_work_is_detached_and_held_by_a_handle() -> None:
    async def running(request: Any, context: Context) -> Any:
        return tool_execution_pb2.GetExecutionResponse(execution=execution("e-1", common_pb2.STATE_RUNNING))

    error = common_pb2.ExecutionError(code=1, reason="CANCELLED", message="stopped")
    cancelled = execution("e-1", common_pb2.STATE_CANCELLED, error=error)
    script = Scripted()
    script.stream.append(plays(snapshot()))
    script.get.append(running)
    script.wait.append(plays(snapshot(1), progress(2), finished(3)))
    script.wait.append(plays(snapshot(3), finished(3, cancelled)))
    script.wait.append(plays(event(3, snapshot=cancelled)))
    async with serving(script) as target, AsyncClient(target) as client:
        handle = await client.start("t", {"a": 1})
        described = await handle.describe()
        events = [each async for each in handle.events(after_sequence=1)]
        with pytest.raises(ExecutionCancelled, match="stopped"):
            await handle.result()
        ended = await client.wait("e-1")
        stopping = await handle.cancel()
    assert script.of("ExecuteStream")[0].request.call.detach_on_disconnect
    assert (handle.execution_id, described.state, stopping.state) == ("e-1", State.RUNNING, State.CANCELLED)
    assert [each.sequence for each in events] == [1, 2, 3]
    assert ended.state is State.CANCELLED
    assert [each.request.after_sequence for each in script.of("WaitExecution")] == [1, -1, -1]
    assert all(each.remaining is not None and each.remaining <= 63 for each in script.of("WaitExecution"))


@pytest.mark.asyncio
async def test_an_outcome_is_found_when_only_the_events_are_gone() -> None:
    async def ended(request: Any, context: Context) -> Any:
        return tool_execution_pb2.GetExecutionResponse(execution=execution("e-1", last_sequence=7))

    gone = plays(code=grpc.StatusCode.NOT_FOUND, reason="RESOURCE_NOT_FOUND")
    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT})
    script.stream.append(plays(snapshot(), progress(1), code=grpc.StatusCode.UNAVAILABLE))
    script.wait.extend([gone, gone])
    script.get.extend([ended, ended])
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        got = [each async for each in client.stream("t")]
        waited = await client.wait("e-1")
        script.wait.append(gone)
        with pytest.raises(ExecutionNotFound):
            await client.wait("e-9")
    assert [(type(each), each.sequence) for each in got[1:]] == [(Progress, 1), (Finished, 7)]
    assert waited.value == 42


@pytest.mark.asyncio
async def test_a_detached_call_that_outlives_its_deadline_tells_what_the_server_said() -> None:
    goes_on = plays(
        snapshot(), code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="CLIENT_DEADLINE", message="it goes on without it"
    )
    script = Scripted()
    script.stream.append(goes_on)
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(DeadlineExceeded, match="goes on"):
            await client.stream("t", detach=True).result()
    assert not script.of("WaitExecution")


@pytest.mark.asyncio
async def test_waiting_without_a_limit_outlasts_the_deadline_of_each_rpc(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(request: Any, context: Context) -> Events:
        yield snapshot(4)
        await asyncio.Event().wait()

    monkeypatch.setattr(deadline, "SLICE_SECONDS", 0.1)
    script = Scripted()
    script.wait.extend([silent, silent, plays(snapshot(4), finished(5))])
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        got = [each async for each in client.follow("e-1", after_sequence=4)]
    assert [(type(each), each.sequence) for each in got] == [(Snapshot, 4), (Finished, 5)]
    assert [each.request.after_sequence for each in script.of("WaitExecution")] == [4, 4, 4]


@pytest.mark.asyncio
async def test_a_server_that_is_gone_for_good_leaves_the_outcome_in_doubt_and_never_not_started() -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT, "r": common_pb2.EFFECT_READ_ONLY})
    server, target = await started(script)
    async with AsyncClient(target, retries=QUICK) as client:
        await client.tool("t")
        await client.tool("r")
        streams = {name: client.stream(name, request_id=name) for name in ("t", "r")}
        script.stream.extend([endless, endless])
        for stream in streams.values():
            await anext(stream)
        await server.stop(0)
        with pytest.raises(OutcomeUnknown, match="attaching to execution e-1 again failed") as unknown:
            await streams["t"].result()
        with pytest.raises(NotConnected) as gone:
            await streams["r"].result()
        with pytest.raises(NotConnected) as waiting:
            await client.wait("e-1")
    assert unknown.value.request_id == "t"
    assert [each.value.outcome for each in (unknown, gone, waiting)] == ["unknown"] * 3
    assert [each.value.execution_id for each in (gone, waiting)] == ["e-1"] * 2


async def endless(request: Any, context: Context) -> Events:
    yield snapshot()
    await asyncio.Event().wait()
