"""One call through the composed handler, over real gRPC: answers, refusals, defects, and bytes that are no request."""

import asyncio
import logging
import math
from typing import Any

import grpc
import pytest

from toolwright.v1 import common_pb2
from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import Failure, Reason, SettingsError, ToolwrightError, Violation
from toolwright_server.identity import ANONYMOUS
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.observe import Unobserved
from toolwright_server.rpc.server import RpcOptions, RpcServer

from .rpc_serving import SERVICE, TRACE_ID, Hold, Playing, details, hang, read_all, refused, serving, trailers


async def _answer(request: pb.ExecuteRequest, call: RpcCall) -> pb.ExecuteResponse:
    call.tool, call.execution_id = request.call.tool, "e-1"
    call.trailers.append(("toolwright-execution-id", "e-1"))
    return pb.ExecuteResponse(execution=common_pb2.Execution(execution_id="e-1", tool=request.call.tool))


@pytest.mark.asyncio
async def test_a_call_is_answered_with_its_trailers_and_seen_once() -> None:
    async with serving(Playing(Execute=_answer)) as there:
        call = there.stub.Execute(pb.ExecuteRequest(call=common_pb2.ToolCall(tool="t")))
        answer = await call
        assert answer.execution.tool == "t"
        assert dict(tuple(await call.trailing_metadata())) == {"toolwright-execution-id": "e-1"}
        assert await there.seen.outcomes(1) == [("OK", "")]
        assert there.seen.begun == [("toolwright.v1.ToolExecution/Execute", (None, None))]
        assert "toolwright.v1.ToolExecution/WaitExecution" in there.seen.methods
        assert (there.seen.calls[0].tool, there.seen.calls[0].execution_id) == ("t", "e-1")


@pytest.mark.asyncio
async def test_a_service_learns_who_calls_since_when_and_for_how_long() -> None:
    calls: list[RpcCall] = []

    async def note(request: Any, call: RpcCall) -> pb.ExecuteResponse:
        calls.append(call)
        return pb.ExecuteResponse()

    async with serving(Playing(Execute=note)) as there:
        metadata = (("traceparent", "00-x"), ("tracestate", "a=1"), ("tracestate", "b=2"), ("x-own", "1"))
        await there.stub.Execute(pb.ExecuteRequest(), timeout=30, metadata=metadata)
        await there.stub.Execute(pb.ExecuteRequest())
        assert there.seen.begun[0][1] == ("00-x", "a=1,b=2")
    with_deadline, without = calls
    assert with_deadline.remaining is not None
    assert 20 < with_deadline.remaining < 31.2, "clients overstate by up to 4 %"
    assert without.remaining is None
    assert with_deadline.caller == ANONYMOUS
    assert with_deadline.trace.trace_id == TRACE_ID
    assert ("x-own", "1") in list(with_deadline.metadata)


@pytest.mark.asyncio
async def test_a_stream_is_written_in_order_and_ends_with_its_trailers() -> None:
    async def count(request: Any, call: RpcCall, write: Any) -> None:
        for number in range(100):
            await write(pb.ExecuteStreamResponse(event=common_pb2.ExecutionEvent(sequence=number)))
        call.trailers.append(("toolwright-execution-id", "e-2"))

    async with serving(Playing(ExecuteStream=count)) as there:
        call = there.stub.ExecuteStream(pb.ExecuteStreamRequest())
        assert [answer.event.sequence for answer in await read_all(call)] == list(range(100))
        assert dict(tuple(await call.trailing_metadata())) == {"toolwright-execution-id": "e-2"}
        assert await there.seen.outcomes(1) == [("OK", "")]


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("method", ["Execute", "ExecuteStream"])
async def test_every_reason_arrives_with_its_code_and_details(reason: Reason, method: str) -> None:
    async def refuse(request: Any, call: RpcCall, write: Any = None) -> None:
        call.trailers.append(("toolwright-execution-id", "e-3"))
        raise ToolwrightError(reason, "wrong: 100 % of it, ä\n", metadata={"execution_id": "e-3"}, retry_delay=1.5)

    async with serving(Playing(Execute=refuse, ExecuteStream=refuse)) as there:
        if method == "Execute":
            error = await refused(there.stub.Execute(pb.ExecuteRequest()))
        else:
            error = await refused(read_all(there.stub.ExecuteStream(pb.ExecuteStreamRequest())))
        assert await there.seen.outcomes(1) == [(reason.code.name, reason.name)]
    assert error.code().value[0] == reason.code.value
    assert error.details() == "wrong: 100 % of it, ä\n"
    found = details(error)
    info = found["ErrorInfo"]
    assert (info.domain, info.reason) == ("toolwright.v1", reason.name)
    assert dict(info.metadata) == {"suggestedAction": reason.value.suggested_action, "execution_id": "e-3"}
    assert found["LocalizedMessage"].message == reason.value.user_message
    assert trailers(error)["toolwright-execution-id"] == "e-3"
    assert ("RetryInfo" in found) is reason.value.retryable
    assert ("QuotaFailure" in found) is (reason.code.name == "RESOURCE_EXHAUSTED")
    pushback = {"grpc-retry-pushback-ms": "1500"} if reason.value.retryable else {}
    if reason.code.name == "RESOURCE_EXHAUSTED" and not reason.value.retryable:
        pushback = {"grpc-retry-pushback-ms": "-1"}
    assert {name: value for name, value in trailers(error).items() if "pushback" in name} == pushback


@pytest.mark.asyncio
async def test_violations_arrive_field_by_field() -> None:
    async def refuse(request: Any, call: RpcCall) -> None:
        violations = (Violation("tags[2]", "must be text"), Violation("", "is no object"))
        raise ToolwrightError(Reason.INVALID_ARGUMENTS, "two things are wrong", violations=violations)

    async with serving(Playing(Execute=refuse)) as there:
        found = details(await refused(there.stub.Execute(pb.ExecuteRequest())))
    named = [(violation.field, violation.description) for violation in found["BadRequest"].field_violations]
    assert named == [("tags[2]", "must be text"), ("", "is no object")]


def _field(tag: int, content: bytes) -> bytes:
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([tag]) + size + bytes([length]) + content


def _nested(levels: int) -> bytes:
    """An ExecuteRequest whose arguments nest `levels` objects."""
    struct = b""
    for _ in range(levels):
        value = _field(0x2A, struct)  # Value.struct_value
        struct = _field(0x0A, _field(0x12, value))  # Struct.fields, FieldsEntry.value
    return _field(0x0A, _field(0x1A, struct))  # ExecuteRequest.call, ToolCall.arguments


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xff\xff", "malformed"),
        (b"\x0a\x05\x0a", "malformed"),
        (b"\x0a\x04\x0a\x02\xff\xfe", "UTF-8"),
        (_nested(1000), "100 deep"),
    ],
    ids=["garbage", "cut off", "not UTF-8", "nested too deep"],
)
@pytest.mark.parametrize("method", ["Execute", "ExecuteStream"])
async def test_bytes_that_are_no_request_are_refused_clearly(data: bytes, says: str, method: str) -> None:
    async with serving(Playing(Execute=_answer, ExecuteStream=hang)) as there:
        call = there.raw(method)(data) if method == "Execute" else read_all(there.raw_stream(method)(data))
        error = await refused(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"the request is no toolwright.v1.{method}Request" in (error.details() or "")
        assert says in (error.details() or "")
        assert "protobuf" not in (error.details() or "").lower()
        assert details(error)["ErrorInfo"].reason == "INVALID_ARGUMENTS"
        assert (await there.raw("Execute")(b""))[:1], "the server goes on"


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["Execute", "ExecuteStream"])
@pytest.mark.parametrize("failure", [ValueError, SystemExit, TimeoutError, BaseExceptionGroup])
async def test_the_text_of_an_exception_stays_on_the_server(
    method: str, failure: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter2"

    async def break_down(*_: Any) -> None:
        raise BaseExceptionGroup(secret, [OSError(secret)]) if failure is BaseExceptionGroup else failure(secret)

    with caplog.at_level(logging.ERROR):
        async with serving(Playing(Execute=break_down, ExecuteStream=break_down)) as there:
            if method == "Execute":
                error = await refused(there.stub.Execute(pb.ExecuteRequest()))
            else:
                error = await refused(read_all(there.stub.ExecuteStream(pb.ExecuteStreamRequest())))
            assert await there.seen.outcomes(1) == [("INTERNAL", "INTERNAL")]
    assert error.code() is grpc.StatusCode.INTERNAL
    assert TRACE_ID in (error.details() or "")
    assert details(error)["ErrorInfo"].metadata["trace_id"] == TRACE_ID
    assert secret not in repr((error.details(), error.trailing_metadata(), error.debug_error_string()))
    assert secret in caplog.text
    assert TRACE_ID in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [None, 42, common_pb2.Execution], ids=["none", "a number", "a class"])
async def test_an_answer_that_is_no_message_is_a_defect_of_the_server(answer: Any) -> None:
    async def wrong(*_: Any) -> Any:
        return answer

    async with serving(Playing(Execute=wrong)) as there:
        error = await refused(there.stub.Execute(pb.ExecuteRequest()))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert await there.seen.outcomes(1) == [("INTERNAL", "INTERNAL")]
        assert there.server.gate.active == 0


@pytest.mark.asyncio
async def test_an_answer_over_the_limit_is_refused_by_us_and_stops_retries() -> None:
    async def much(*_: Any) -> pb.ExecuteResponse:
        return pb.ExecuteResponse(execution=common_pb2.Execution(tool="x" * 70_000))

    async def much_of_it(request: Any, call: RpcCall, write: Any) -> None:
        await write(pb.ExecuteStreamResponse(event=common_pb2.ExecutionEvent(execution_id="x" * 70_000)))

    async with serving(Playing(Execute=much, ExecuteStream=much_of_it), message_limit_bytes=65_536) as there:
        for call in (
            there.stub.Execute(pb.ExecuteRequest()),
            read_all(there.stub.ExecuteStream(pb.ExecuteStreamRequest())),
        ):
            error = await refused(call)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details(error)["ErrorInfo"].reason == "PAYLOAD_TOO_LARGE"
            assert trailers(error)["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.asyncio
async def test_a_request_over_the_transports_limit_never_reaches_a_service() -> None:
    async with serving(Playing(Execute=_answer), message_limit_bytes=65_536) as there:
        error = await refused(there.raw("Execute")(b"\x0a" * 70_000))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert there.seen.calls == []
        await there.stub.Execute(pb.ExecuteRequest())


@pytest.mark.asyncio
async def test_metadata_over_the_limit_never_reaches_a_service() -> None:
    async with serving(Playing(Execute=_answer), metadata_limit_bytes=4096) as there:
        error = await refused(there.stub.Execute(pb.ExecuteRequest(), metadata=(("x-long", "y" * 5000),)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert there.seen.calls == []
        await there.stub.Execute(pb.ExecuteRequest(), metadata=(("x-long", "y" * 2000),))


@pytest.mark.asyncio
async def test_trailers_of_the_worst_failure_arrive_whole() -> None:
    worst = Failure(
        Reason.CONCURRENCY_LIMITED,
        "\0ä%\n" * 9999,
        user_message="ß" * 9999,
        suggested_action="\ud800" * 9999,
        retry_delay=math.inf,
        metadata={f"{number}" * 99: "€" * 9999 for number in range(99)},
        violations=[Violation("f" * 9999, "d\udfff" * 9999)] * 99,
    )

    async def refuse(request: Any, call: RpcCall) -> None:
        call.trailers.extend([("toolwright-execution-id", "e" * 36), ("x", "y" * 9999), ("Bad Name", "v"), ("ä", "ä")])
        raise ToolwrightError.of(worst)

    async with serving(Playing(Execute=refuse)) as there:
        error = await refused(there.stub.Execute(pb.ExecuteRequest()))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert {"ErrorInfo", "RetryInfo", "QuotaFailure", "LocalizedMessage", "BadRequest"} == set(details(error))
    assert trailers(error)["toolwright-execution-id"] == "e" * 36
    assert not {"x", "Bad Name", "ä"} & set(trailers(error))


@pytest.mark.asyncio
async def test_calls_beyond_the_limit_are_told_when_to_come_back() -> None:
    hold = Hold(pb.ExecuteResponse())
    play = Playing(Execute=hold, GetExecution=hang)
    async with serving(play, concurrent_calls_limit=2) as there:
        held = [there.stub.Execute(pb.ExecuteRequest()) for _ in range(2)]
        await hold.arrived(2)
        error = await refused(there.stub.GetExecution(pb.GetExecutionRequest()))
        found = details(error)
        assert found["ErrorInfo"].reason == "CONCURRENCY_LIMITED"
        assert found["ErrorInfo"].metadata["outcome"] == "not_started"
        assert found["QuotaFailure"].violations[0].subject == "server"
        delay = found["RetryInfo"].retry_delay.ToNanoseconds() / 1e9
        assert 0.2 <= delay <= 0.6
        assert abs(int(str(trailers(error)["grpc-retry-pushback-ms"])) - delay * 1000) <= 1
        for call in held:
            call.cancel()
        assert sorted(await there.seen.outcomes(3)) == [
            ("CANCELLED", "CANCELLED"),
            ("CANCELLED", "CANCELLED"),
            ("RESOURCE_EXHAUSTED", "CONCURRENCY_LIMITED"),
        ]
        assert there.server.gate.active == 0
        hold.go.set()
        await there.stub.Execute(pb.ExecuteRequest())


@pytest.mark.asyncio
async def test_streams_that_watch_have_a_limit_of_their_own() -> None:
    hold = Hold()
    play = Playing(Execute=_answer, WaitExecution=hold)
    async with serving(play, concurrent_calls_limit=1, watching_streams_limit=3) as there:
        watching = [there.stub.WaitExecution(pb.WaitExecutionRequest()) for _ in range(3)]
        await hold.arrived(3)
        await there.stub.Execute(pb.ExecuteRequest())
        error = await refused(anext(aiter(there.stub.WaitExecution(pb.WaitExecutionRequest()))))
        assert details(error)["ErrorInfo"].reason == "CONCURRENCY_LIMITED"
        assert details(error)["ErrorInfo"].metadata["limit"] == "3"
        for call in watching:
            call.cancel()
        await there.seen.outcomes(5)
        assert there.server.gate.active == 0


def test_a_service_that_lacks_a_method_is_refused_at_start() -> None:
    class Half:
        async def Execute(self, request: Any, call: RpcCall) -> Any:  # noqa: N802 - named as its rpc
            ...

    async def start(servicer: object, ends_at_drain: set[str]) -> None:
        RpcServer(RpcOptions(listen="127.0.0.1:0"), Unobserved()).add(SERVICE, servicer, ends_at_drain)

    with pytest.raises(
        SettingsError, match=r"Half does not serve toolwright\.v1\.ToolExecution\.\w+: write `async def"
    ):
        asyncio.run(start(Half(), set()))
    with pytest.raises(SettingsError, match="has no response stream named Execute"):
        asyncio.run(start(Playing(), {"Execute"}))
