"""Batches of the client over real gRPC: answers in order, what is sent again, and that no answer is lost over it."""

import asyncio
from typing import Any

import grpc
import pytest

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client import (
    AsyncClient,
    BatchStopped,
    Call,
    Client,
    ConnectionLost,
    InvalidArguments,
    OutcomeUnknown,
    PayloadTooLarge,
    RateLimited,
    RetryPolicy,
    State,
    ToolFailed,
)
from toolwright_client.background import background

from .client_server import Answer, Context, Scripted, execution, refuse, serving, started

QUICK = RetryPolicy(initial_backoff_seconds=0.01, lost_seconds=1)
SECONDS = 10
READ, ACT = common_pb2.EFFECT_READ_ONLY, common_pb2.EFFECT_SIDE_EFFECT


def error(code: grpc.StatusCode, reason: str, **fields: Any) -> common_pb2.ExecutionError:
    made = common_pb2.ExecutionError(code=code.value[0], reason=reason, message=reason.lower(), **fields)
    made.metadata.setdefault("outcome", "not_started")
    return made


def limited(delay_ms: int = 10) -> common_pb2.ExecutionError:
    made = error(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", retryable=True)
    made.retry_delay.FromMilliseconds(delay_ms)
    return made


STOPPED = error(grpc.StatusCode.FAILED_PRECONDITION, "BATCH_STOPPED")
FAILED = common_pb2.ExecutionError(code=2, reason="TOOL_FAILED", message="no such mail")


def answering(*outcomes: common_pb2.ExecutionError | None) -> Answer:
    """An answer in which calls succeed with 42 (None) or end like this."""

    async def answer(request: Any, context: Context) -> Any:
        made = tool_execution_pb2.BatchExecuteResponse()
        for call, outcome in zip(request.calls, outcomes, strict=True):
            state = common_pb2.STATE_FAILED if outcome is FAILED else common_pb2.STATE_REJECTED
            state = common_pb2.STATE_SUCCEEDED if outcome is None else state
            made.executions.append(execution(f"e-{call.request_id}", state, request_id=call.request_id, error=outcome))
        return made

    return answer


async def breaks_off(request: Any, context: Context) -> None:
    """What a dying server leaves behind."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def sent(script: Scripted) -> list[list[str]]:
    """The request ids of each BatchExecute."""
    return [[call.request_id for call in each.request.calls] for each in script.of("BatchExecute")]


def calls(*names: str, tool: str = "t") -> list[Call]:
    return [Call(tool, request_id=name) for name in names]


@pytest.mark.asyncio
async def test_each_call_is_sent_as_it_would_be_alone() -> None:
    script = Scripted(effects={"t": READ, "act": ACT})
    async with serving(script) as target, AsyncClient(target) as client:
        results = await client.batch(
            [Call("t", {"big": 2**63}, labels={"k": "v"}, tool_timeout=1.5), Call("act"), Call("act", detach=False)],
            max_parallel=7,
            stop_on_failure=True,
            timeout=5,
            metadata={"x-mine": "1"},
        )
    [seen] = script.of("BatchExecute")
    first, second, third = seen.request.calls
    assert [result.value for result in results] == [42, 42, 42]
    assert [result.execution.request_id for result in results] == [call.request_id for call in seen.request.calls]
    assert (first.arguments_json, dict(first.labels), first.timeout.ToMilliseconds()) == (
        '{"big":9223372036854775808}',
        {"k": "v"},
        1500,
    )
    assert [call.detach_on_disconnect for call in (first, second, third)] == [False, True, False]
    assert len({call.request_id for call in seen.request.calls} - {""}) == 3
    assert (seen.request.max_parallel, seen.request.stop_on_failure, seen.metadata["x-mine"]) == (7, True, "1")
    assert seen.remaining is not None
    assert seen.remaining <= 5


@pytest.mark.asyncio
async def test_what_became_of_a_call_is_data() -> None:
    wrong = error(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENTS")
    wrong.violations.add(field="tags[2]", description="must be text")
    script = Scripted(effects={"t": READ})
    script.batch.append(answering(None, FAILED, wrong, STOPPED))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        done, failed, invalid, stopped = await client.batch(calls("a", "b", "c", "d"))
    assert (done.value, done.error) == (42, None)
    assert isinstance(failed.error, ToolFailed)
    assert isinstance(invalid.error, InvalidArguments)
    assert [(each.field, each.description) for each in invalid.error.violations] == [("tags[2]", "must be text")]
    assert isinstance(stopped.error, BatchStopped)
    assert (stopped.error.outcome, stopped.error.request_id) == ("not_started", "d")
    with pytest.raises(ToolFailed, match="no such mail"):
        _ = failed.value
    assert len(sent(script)) == 1


@pytest.mark.asyncio
async def test_a_batch_whose_answer_is_lost_is_sent_again_under_the_same_names() -> None:
    script = Scripted(effects={"t": ACT})
    script.batch.extend([breaks_off, answering(None, error(grpc.StatusCode.NOT_FOUND, "TOOL_NOT_FOUND"))])
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        done, refused = await client.batch(calls("a", "b"))
    assert sent(script) == [["a", "b"], ["a", "b"]]
    assert done.value == 42
    assert refused.error is not None
    # An earlier try may have run it.
    assert refused.error.outcome == "unknown"


@pytest.mark.asyncio
async def test_only_calls_that_would_be_sent_again_alone_are_sent_again() -> None:
    script = Scripted(effects={"t": ACT})
    down = error(grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", retryable=True)
    script.batch.extend([answering(None, limited(), FAILED, down), answering(limited(), None), answering(None)])
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        results = await client.batch(calls("a", "b", "c", "d"))
    assert sent(script) == [["a", "b", "c", "d"], ["b", "d"], ["b"]]
    assert [result.ok for result in results] == [True, True, False, True]


@pytest.mark.asyncio
async def test_tries_are_bounded_and_the_last_answer_counts() -> None:
    script = Scripted(effects={"t": ACT})
    script.batch.extend([answering(None, limited()), *[answering(limited())] * 9])
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        done, refused = await client.batch(calls("a", "b"))
    assert len(sent(script)) == QUICK.max_attempts
    assert done.ok
    assert isinstance(refused.error, RateLimited)


@pytest.mark.asyncio
async def test_a_stopped_batch_goes_on_after_a_limit_and_not_after_a_failure() -> None:
    script = Scripted(effects={"t": ACT})
    script.batch.extend([answering(None, limited(), STOPPED), answering(None, FAILED)])
    script.batch.append(answering(limited(), FAILED, STOPPED))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        first = await client.batch(calls("a", "b", "c"), stop_on_failure=True, max_parallel=1)
        second = await client.batch(calls("d", "e", "f"), stop_on_failure=True)
    assert sent(script) == [["a", "b", "c"], ["b", "c"], ["d", "e", "f"]]
    assert [type(result.error) for result in first] == [type(None), type(None), ToolFailed]
    assert [type(result.error) for result in second] == [RateLimited, ToolFailed, BatchStopped]


@pytest.mark.asyncio
@pytest.mark.parametrize(("effect", "kind"), [(READ, ConnectionLost), (ACT, OutcomeUnknown)])
async def test_answers_are_kept_when_what_was_sent_again_is_lost(effect: int, kind: type[Exception]) -> None:
    script = Scripted(effects={"t": effect})
    script.batch.extend([answering(None, limited()), *[breaks_off] * 20])
    policy = RetryPolicy(max_attempts=2, initial_backoff_seconds=0.01, lost_seconds=0)
    async with serving(script) as target, AsyncClient(target, retries=policy) as client:
        done, lost = await client.batch(calls("a", "b"))
    assert done.value == 42
    assert (type(lost.error), lost.execution.state) == (kind, State.OUTCOME_UNKNOWN)
    assert lost.error is not None
    assert lost.error.outcome == "unknown"


@pytest.mark.asyncio
@pytest.mark.parametrize(("effect", "kind"), [(READ, ConnectionLost), (ACT, OutcomeUnknown)])
async def test_a_batch_of_which_nothing_is_heard_raises(effect: int, kind: type[Exception]) -> None:
    script = Scripted(effects={"t": effect})
    script.batch.extend([breaks_off] * 20)
    policy = RetryPolicy(max_attempts=2, initial_backoff_seconds=0.01, lost_seconds=0)
    async with serving(script) as target, AsyncClient(target, retries=policy) as client:
        with pytest.raises(kind) as caught:
            await client.batch(calls("a", "b"))
    if effect == ACT:
        assert "a, b" in str(caught.value)


@pytest.mark.asyncio
async def test_a_refusal_of_the_whole_raises() -> None:
    async def refusing(request: Any, context: Context) -> None:
        await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENTS")

    script = Scripted(effects={"t": READ})
    script.batch.append(refusing)
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(InvalidArguments):
            await client.batch([])
        huge = {"text": "x" * (3 << 20)}
        with pytest.raises(PayloadTooLarge, match="nothing was sent"):
            await client.batch([Call("t", huge)] * 6)
    assert len(sent(script)) == 1


@pytest.mark.asyncio
async def test_a_result_that_was_left_out_is_fetched_or_raises() -> None:
    async def too_large(request: Any, context: Context) -> Any:
        made = [execution(f"e-{call.request_id}", request_id=call.request_id) for call in request.calls]
        for each, kept in zip(made, ("true", "true", "false"), strict=True):
            each.ClearField("result")
            each.error.CopyFrom(
                common_pb2.ExecutionError(code=8, reason="PAYLOAD_TOO_LARGE", metadata={"kept": kept, "size": "9"})
            )
        return tool_execution_pb2.BatchExecuteResponse(executions=made)

    async def whole(request: Any, context: Context) -> Any:
        return tool_execution_pb2.GetExecutionResponse(execution=execution(request.execution_id))

    script = Scripted(effects={"t": READ})
    script.batch.append(too_large)
    script.get.append(whole)
    async with serving(script) as target, AsyncClient(target) as client:
        fetched, gone, secret = await client.batch(calls("a", "b", "c"))
    assert (fetched.value, fetched.execution_id) == (42, "e-a")
    assert [each.request.execution_id for each in script.of("GetExecution")] == ["e-a", "e-b"]
    for result in (gone, secret):
        assert (result.ok, result.execution.state) == (False, State.SUCCEEDED)
        with pytest.raises(PayloadTooLarge):
            _ = result.value


@pytest.mark.asyncio
async def test_cancelling_stops_detached_calls() -> None:
    arrived = asyncio.Event()
    found: list[str] = []

    async def hangs(request: Any, context: Context) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async def known(request: Any, context: Context) -> Any:
        found.append(request.request_id)
        return tool_execution_pb2.GetExecutionResponse(
            execution=execution(f"e-{request.request_id}", common_pb2.STATE_RUNNING)
        )

    script = Scripted(effects={"t": READ, "act": ACT})
    script.batch.append(hangs)
    script.get.extend([known] * 2)
    async with serving(script) as target, AsyncClient(target) as client:
        task = asyncio.create_task(client.batch([*calls("a"), *calls("b", "c", tool="act")]))
        await asyncio.wait_for(arrived.wait(), SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sorted(found) == ["b", "c"]
    assert sorted(each.request.execution_id for each in script.of("CancelExecution")) == ["e-b", "e-c"]


def test_the_blocking_client_does_the_same() -> None:
    script = Scripted(effects={"t": READ})
    script.batch.append(answering(None, FAILED))
    server, target = background().run(started(script))
    try:
        with Client(target) as client:
            done, failed = client.batch(calls("a", "b"), max_parallel=2, timeout=SECONDS)
    finally:
        background().run(server.stop(0))
    assert (done.value, failed.ok) == (42, False)
