"""One call of the client over real gRPC: values, errors, deadlines, traces and what is sent along."""

import asyncio
import math
import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry import context as otel
from opentelemetry import trace

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client import (
    AsyncClient,
    DeadlineExceeded,
    Effect,
    InvalidArguments,
    LimitReached,
    NotConnected,
    PayloadTooLarge,
    RetryPolicy,
    ServerError,
    State,
    ToolFailed,
    ToolNotFound,
    ToolwrightError,
)

from .client_server import Context, Scripted, execution, refuse, serving


@pytest.mark.asyncio
async def test_a_value_comes_back_decoded_and_a_request_id_is_always_sent() -> None:
    script = Scripted()
    async with serving(script) as target, AsyncClient(target) as client:
        result = await client.execute(
            "t", {"big": 2**63, "text": "ä"}, labels={"k": "v"}, session_id="s", tool_timeout=1.5, version="2"
        )
        again = await client.execute("t")
    call, second = (each.request.call for each in script.of("Execute"))
    assert (result.value, result.ok, result.execution.state) == (42, True, State.SUCCEEDED)
    assert call.arguments_json == '{"big":9223372036854775808,"text":"ä"}'
    assert (call.session_id, dict(call.labels), call.tool_version) == ("s", {"k": "v"}, "2")
    assert call.timeout.ToMilliseconds() == 1500
    assert not second.HasField("timeout")
    assert len(call.request_id) == 32
    assert call.request_id != second.request_id
    assert again.execution.request_id == second.request_id
    assert not call.detach_on_disconnect


def failed(request: Any) -> tool_execution_pb2.ExecuteResponse:
    error = common_pb2.ExecutionError(
        code=13, reason="TOOL_CRASHED", message="the tool died", suggested_action="Try less.", metadata={"k": "v"}
    )
    ended = execution("e-9", common_pb2.STATE_FAILED, error=error, request_id=request.call.request_id)
    return tool_execution_pb2.ExecuteResponse(execution=ended)


@pytest.mark.asyncio
async def test_a_tool_that_failed_raises_or_comes_back_as_asked() -> None:
    async def fails(request: Any, context: Context) -> Any:
        return failed(request)

    script = Scripted()
    script.execute.extend([fails, fails])
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(ToolFailed) as caught:
            await client.execute("t")
        result = await client.execute("t", raise_on_failure=False)
    error = caught.value
    assert (error.reason, error.suggested_action, error.execution_id) == ("TOOL_CRASHED", "Try less.", "e-9")
    assert not result.ok
    with pytest.raises(ToolFailed, match="the tool died"):
        _ = result.value


@pytest.mark.asyncio
async def test_details_of_a_status_become_a_typed_error() -> None:
    async def wrong(request: Any, context: Context) -> None:
        violation = error_details_pb2.BadRequest.FieldViolation(field="tags[2]", description="must be text")
        await refuse(
            context,
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENTS",
            details=(
                error_details_pb2.BadRequest(field_violations=[violation]),
                error_details_pb2.LocalizedMessage(locale="en", message="Please check the tags."),
            ),
            suggestedAction="Pass text.",
            execution_id="e-3",
            outcome="not_started",
        )

    async def unknown(request: Any, context: Context) -> None:
        await refuse(context, grpc.StatusCode.NOT_FOUND, "TOOL_NOT_FOUND")

    script = Scripted()
    script.execute.extend([wrong, unknown])
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(InvalidArguments) as caught:
            await client.execute("t")
        with pytest.raises(ToolNotFound):
            await client.execute("t")
    error = caught.value
    assert [(each.field, each.description) for each in error.violations] == [("tags[2]", "must be text")]
    assert (error.user_message, error.suggested_action) == ("Please check the tags.", "Pass text.")
    assert (error.code, error.outcome, error.execution_id) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "not_started",
        "e-3",
    )
    assert "tags" not in str(error)
    assert len(script.of("Execute")) == 2


@pytest.mark.asyncio
async def test_a_bare_status_maps_to_an_error_that_promises_nothing() -> None:
    async def broken(request: Any, context: Context) -> None:
        await context.abort(grpc.StatusCode.INTERNAL, "proxy says no")

    script = Scripted(effects={"t": common_pb2.EFFECT_READ_ONLY})
    script.execute.append(broken)
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(ServerError) as caught:
            await client.execute("t", request_id="r-1")
    assert (caught.value.reason, caught.value.outcome, caught.value.request_id) == ("", "unknown", "r-1")
    assert "r-1" in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("arguments", [{"x": "a" * (4 * 1024 * 1024)}], ids=["4 MiB and a little"])
async def test_arguments_over_4_mib_are_refused_before_sending(arguments: dict[str, Any]) -> None:
    script = Scripted()
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(PayloadTooLarge) as caught:
            await client.execute("t", arguments)
        exact = {"x": "a" * (4 * 1024 * 1024 - len('{"x":""}'))}
        assert (await client.execute("t", exact)).value == 42
    assert caught.value.outcome == "not_started"
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [object(), math.nan, "\ud800", {1: object()}])
async def test_what_is_no_json_is_refused_before_sending(value: object) -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(InvalidArguments) as caught:
            await client.execute("t", {"x": value})
    assert caught.value.outcome == "not_started"
    assert caught.value.violations


@pytest.mark.asyncio
async def test_the_server_sees_the_shortest_of_timeout_default_and_surrounding_deadline() -> None:
    script = Scripted()
    async with serving(script) as target, AsyncClient(target, timeout=20) as client:
        await client.execute("t")
        await client.execute("t", timeout=30)
        token = otel.attach(otel.set_value("toolwright-deadline", time.monotonic() + 5))
        try:
            await client.execute("t")
            await client.execute("t", timeout=2)
        finally:
            otel.detach(token)
    default, explicit, inherited, shorter = (each.remaining or 0 for each in script.of("Execute"))
    assert 15 < default <= 21
    assert 25 < explicit <= 31.5
    assert 3 < inherited <= 5.3
    assert 1 < shorter <= 2.1


@pytest.mark.asyncio
async def test_a_surrounding_deadline_that_has_passed_raises_before_sending() -> None:
    script = Scripted()
    async with serving(script) as target, AsyncClient(target) as client:
        token = otel.attach(otel.set_value("toolwright-deadline", time.monotonic() - 1))
        try:
            with pytest.raises(DeadlineExceeded, match="inherited") as caught:
                await client.execute("t")
        finally:
            otel.detach(token)
    assert caught.value.outcome == "not_started"
    assert not script.seen


@pytest.mark.asyncio
async def test_the_clients_own_deadline_raises_and_tells_the_server() -> None:
    stopped = asyncio.Event()

    async def hangs(request: Any, context: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    script = Scripted()
    script.execute.append(hangs)
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            await client.execute("t", timeout=0.2)
        await asyncio.wait_for(stopped.wait(), 5)
    assert (caught.value.reason, caught.value.outcome) == ("CLIENT_DEADLINE", "unknown")


@pytest.mark.asyncio
async def test_cancelling_the_task_that_waits_stops_the_call_at_the_server() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def hangs(request: Any, context: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    script = Scripted()
    script.execute.append(hangs)
    async with serving(script) as target, AsyncClient(target) as client:
        waiting = asyncio.create_task(client.execute("t"))
        await asyncio.wait_for(begun.wait(), 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(stopped.wait(), 5)


@pytest.mark.asyncio
async def test_trace_parent_execution_and_metadata_travel_along() -> None:
    span = trace.SpanContext(int("a" * 32, 16), int("b" * 16, 16), is_remote=False, trace_flags=trace.TraceFlags(1))
    context = trace.set_span_in_context(trace.NonRecordingSpan(span))
    token = otel.attach(otel.set_value("toolwright-execution-id", "parent-1", context))
    script = Scripted()
    try:
        async with serving(script) as target, AsyncClient(target, metadata={"X-One": "1"}) as client:
            await client.execute("t", metadata={"x-two": "2"})
    finally:
        otel.detach(token)
    (seen,) = script.of("Execute")
    assert seen.metadata["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-01"
    assert (seen.metadata["x-one"], seen.metadata["x-two"]) == ("1", "2")
    assert seen.request.call.parent_execution_id == "parent-1"


@pytest.mark.asyncio
async def test_a_server_that_cannot_be_reached_is_named_and_nothing_was_sent() -> None:
    async with AsyncClient("127.0.0.1:1", retries=RetryPolicy(max_attempts=2)) as client:
        with pytest.raises(NotConnected, match=r"127\.0\.0\.1:1") as caught:
            await client.execute("t")
    assert caught.value.outcome == "not_started"


@pytest.mark.asyncio
async def test_an_answer_over_the_transport_limit_is_an_error_and_no_second_call() -> None:
    async def huge(request: Any, context: Context) -> Any:
        answer = tool_execution_pb2.ExecuteResponse(execution=execution())
        answer.execution.result.value_json = '"' + "a" * (17 * 1024 * 1024) + '"'
        return answer

    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT})
    script.execute.append(huge)
    async with serving(script) as target, AsyncClient(target) as client:
        with pytest.raises(LimitReached) as caught:
            await client.execute("t")
    assert caught.value.outcome == "unknown"
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
async def test_tools_executions_and_validation_are_read_page_by_page() -> None:
    script = Scripted(effects={"a": common_pb2.EFFECT_READ_ONLY, "b": common_pb2.EFFECT_UNSPECIFIED})
    async with serving(script) as target, AsyncClient(target) as client:
        tools = await client.tools()
        tool = await client.tool("a")
        some, every = await client.list(limit=3), await client.list('state = "FAILED"')
        validation = await client.validate("a", {"tags": [1]})
        cancelled = await client.cancel("e-7")
        with pytest.raises(ToolNotFound):
            await client.tool("c")
    assert [(each.name, each.effect) for each in tools] == [("a", Effect.READ_ONLY), ("b", Effect.SIDE_EFFECT)]
    assert (tool.timeout, tool.input_schema, tool.output_schema) == (5.0, {"type": "object"}, None)
    assert ([each.execution_id for each in some], len(every)) == (["e-0", "e-1", "e-2"], 5)
    assert (validation.valid, validation.violations[0].field) == (False, "tags[2]")
    assert cancelled.state is State.CANCELLED


@pytest.mark.asyncio
async def test_a_closed_client_says_so_and_ends_what_is_in_flight() -> None:
    begun = asyncio.Event()

    async def hangs(request: Any, context: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    script = Scripted(effects={"t": common_pb2.EFFECT_READ_ONLY})
    script.execute.append(hangs)
    async with serving(script) as target:
        client = AsyncClient(target, retries=RetryPolicy(max_attempts=1))
        waiting = asyncio.create_task(client.execute("t"))
        await asyncio.wait_for(begun.wait(), 5)
        await client.aclose()
        with pytest.raises(ToolwrightError, match="closed"):
            await waiting
        with pytest.raises(RuntimeError, match="closed"):
            await client.tools()
