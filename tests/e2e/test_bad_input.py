"""What cannot be right is refused with a reason and details, whatever it is, and the server goes on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2  # pyright: ignore[reportMissingTypeStubs]

from tests.live import LiveServer, execute_request, live_server, stubs
from tests.refused import Refused, refused
from toolwright.v1 import tool_catalog_pb2, tool_catalog_pb2_grpc, tool_execution_pb2, tool_execution_pb2_grpc

Stubs = tuple[tool_execution_pb2_grpc.ToolExecutionStub, tool_catalog_pb2_grpc.ToolCatalogServiceStub]
SECONDS = 30.0
MANY = 10_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    env = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_PROCESS_WORKERS": "2"}
    with live_server(tmp_path_factory.mktemp("bad"), env=env) as running:
        yield running


@pytest.fixture
def calls(server: LiveServer) -> Iterator[Stubs]:
    """Stubs; after the test the server still answers, in the same process."""
    with stubs(server) as both:
        yield both
        answer = both[0].Execute(execute_request("diagnostics.echo", {"still": "here"}), timeout=SECONDS)
        assert json.loads(answer.execution.result.value_json) == {"still": "here"}


def sent_raw(server: LiveServer, method: str, data: bytes) -> Callable[[], object]:
    """A call of ToolExecution with these very bytes."""

    def call() -> object:
        with grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
            bare: Any = channel
            rpc = bare.unary_unary(f"/toolwright.v1.ToolExecution/{method}")
            return rpc(data, timeout=SECONDS)

    return call


def as_text(tool: str, arguments_json: str, **fields: Any) -> tool_execution_pb2.ExecuteRequest:
    request = execute_request(tool, **fields)
    request.call.arguments_json = arguments_json
    return request


def struct_of(levels: int) -> Struct:
    struct = Struct()
    inner = struct
    for _ in range(levels):
        inner = inner.fields["a"].struct_value
    inner.fields["end"].bool_value = True
    return struct


def assert_well_formed(answer: Refused, code: str, reason: str) -> None:
    assert (answer.code, answer.reason, answer.domain) == (code, reason, "toolwright.v1"), answer.everything
    assert answer.user_message
    assert answer.metadata["suggestedAction"]
    assert answer.status.message == answer.message
    assert sum(len(key) + len(value) + 32 for key, value in answer.trailers.items()) < 4096


# Each with the field that is named: empty for the whole object, where a field is missing or too many.
INVALID: dict[str, tuple[tool_execution_pb2.ExecuteRequest, str]] = {
    "an empty request": (tool_execution_pb2.ExecuteRequest(), "call.tool"),
    "a wrong type": (execute_request("diagnostics.sleep", {"seconds": "long"}), "seconds"),
    "a missing argument": (execute_request("diagnostics.sleep"), "seconds"),
    "an unknown argument": (execute_request("diagnostics.sleep", {"seconds": 1, "colour": "red"}), "colour"),
    "a value out of range": (execute_request("diagnostics.sleep", {"seconds": -1}), "seconds"),
    "no JSON": (as_text("diagnostics.echo", "{nonsense"), "arguments_json"),
    "JSON that is no object": (as_text("diagnostics.echo", "[1]"), "arguments_json"),
    "JSON 10,000 deep": (as_text("diagnostics.echo", '{"a":' + "[" * MANY + "]" * MANY + "}"), "arguments_json"),
    "an integer beyond 64 bits": (as_text("diagnostics.echo", '{"n": 18446744073709551616}'), "arguments_json"),
    "a very negative integer": (as_text("diagnostics.echo", '{"n": -9223372036854775809}'), "arguments_json"),
    "a million digits": (as_text("diagnostics.echo", '{"n": ' + "9" * 1_000_000 + "}"), "arguments_json"),
    "NaN in JSON": (as_text("diagnostics.echo", '{"n": NaN}'), "arguments_json"),
    "a number that is infinite": (as_text("diagnostics.echo", '{"n": 1e999}'), "arguments_json"),
    "half a surrogate pair": (as_text("diagnostics.echo", '{"n": "\\ud800"}'), "arguments_json"),
    "a negative timeout": (execute_request("diagnostics.echo", timeout=-1.0), "call.timeout"),
    "a timeout of nothing": (execute_request("diagnostics.echo", timeout=0.0), "call.timeout"),
    "a very long request id": (execute_request("diagnostics.echo", request_id="x" * 5000), "call.request_id"),
    "a very long tool name": (execute_request("x" * MANY), "call.tool"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_call_is_refused_naming_the_field(calls: Stubs, name: str) -> None:
    request, field = INVALID[name]
    answer = refused(lambda: calls[0].Execute(request, timeout=SECONDS))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert field in answer.fields, answer.everything


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [({}, ["seconds"]), ({"seconds": 1, "colour": "red", "size": 2}, ["colour", "size"])],
)
def test_each_field_that_is_missing_or_too_many_is_named(
    calls: Stubs, arguments: dict[str, Any], fields: list[str]
) -> None:
    answer = refused(lambda: calls[0].Execute(execute_request("diagnostics.sleep", arguments), timeout=SECONDS))
    assert answer.fields == fields
    assert fields[0] in answer.message


@pytest.mark.parametrize("name", ["a wrong type", "an empty request", "JSON 10,000 deep"])
def test_a_stream_refuses_as_a_call_does(calls: Stubs, name: str) -> None:
    request, field = INVALID[name]
    stream = tool_execution_pb2.ExecuteStreamRequest(call=request.call)
    answer = refused(lambda: list(calls[0].ExecuteStream(stream, timeout=SECONDS)))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert field in answer.fields


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_struct_with_a_number_that_json_lacks_is_refused(calls: Stubs, number: float) -> None:
    request = tool_execution_pb2.ExecuteRequest()
    request.call.tool = "diagnostics.echo"
    request.call.arguments["n"] = number
    answer = refused(lambda: calls[0].Execute(request, timeout=SECONDS))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")


def test_a_struct_nested_200_deep_is_refused(server: LiveServer, calls: Stubs) -> None:
    request = tool_execution_pb2.ExecuteRequest()
    request.call.tool = "diagnostics.echo"
    request.call.arguments.CopyFrom(struct_of(200))
    answer = refused(sent_raw(server, "Execute", request.SerializeToString()))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert "100 deep" in answer.message


@pytest.mark.parametrize(
    "tool", ["diagnostics.none", "../../etc/passwd", "Robert'); DROP TABLE tools;--", "\u202eevil"]
)
def test_an_unknown_tool_is_not_found(calls: Stubs, tool: str) -> None:
    answer = refused(lambda: calls[0].Execute(execute_request(tool), timeout=SECONDS))
    assert_well_formed(answer, "NOT_FOUND", "TOOL_NOT_FOUND")
    found = refused(lambda: calls[1].GetTool(tool_catalog_pb2.GetToolRequest(tool=tool), timeout=SECONDS))
    assert_well_formed(found, "NOT_FOUND", "TOOL_NOT_FOUND")


@pytest.mark.parametrize("name", ["tool", "request_id", "user_id", "session_id", "task_id"])
def test_control_characters_in_names_are_invalid(calls: Stubs, name: str) -> None:
    request = execute_request("diagnostics.echo")
    setattr(request.call, name, "evil\0\x1b[2J")
    answer = refused(lambda: calls[0].Execute(request, timeout=SECONDS))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert f"call.{name}" in answer.message


def test_an_unknown_version_of_a_tool_is_not_found(calls: Stubs) -> None:
    answer = refused(lambda: calls[0].Execute(execute_request("diagnostics.echo", tool_version="99"), timeout=SECONDS))
    assert_well_formed(answer, "NOT_FOUND", "TOOL_NOT_FOUND")


def test_an_unknown_execution_is_not_found_by_whoever_asks(calls: Stubs) -> None:
    execution, nobody = calls[0], "0190b5a0-0000-7000-8000-000000000000"
    questions: list[Callable[[], object]] = [
        lambda: execution.GetExecution(tool_execution_pb2.GetExecutionRequest(execution_id=nobody), timeout=SECONDS),
        lambda: execution.GetExecution(tool_execution_pb2.GetExecutionRequest(request_id=nobody), timeout=SECONDS),
        lambda: list(
            execution.WaitExecution(tool_execution_pb2.WaitExecutionRequest(execution_id=nobody), timeout=SECONDS)
        ),
        lambda: execution.CancelExecution(
            tool_execution_pb2.CancelExecutionRequest(execution_id=nobody), timeout=SECONDS
        ),
    ]
    for question in questions:
        assert_well_formed(refused(question), "NOT_FOUND", "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("method", ["GetExecution", "CancelExecution"])
def test_a_question_about_no_execution_is_refused(server: LiveServer, calls: Stubs, method: str) -> None:
    assert_well_formed(refused(sent_raw(server, method, b"")), "INVALID_ARGUMENT", "INVALID_ARGUMENTS")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"page_size": -1}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"page_token": "!!!"}, "page_token"),
        ({"page_token": "AAAAAAAAAAAAAAAAAAAA"}, "page_token"),
        ({"page_token": "Ä" * 300}, "page_token"),
        ({"filter": "state"}, "filter"),
        ({"filter": 'colour = "red"'}, "filter"),
        ({"filter": 'state = "DANCING"'}, "filter"),
        ({"filter": 'state = "RUNNING" OR'}, "filter"),
        ({"filter": "x" * MANY}, "filter"),
    ],
)
def test_a_bad_page_or_filter_is_refused_naming_the_field(calls: Stubs, fields: dict[str, Any], where: str) -> None:
    request = tool_execution_pb2.ListExecutionsRequest(**fields)
    answer = refused(lambda: calls[0].ListExecutions(request, timeout=SECONDS))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert answer.fields == [where]


def test_a_heartbeat_outside_its_bounds_is_refused(calls: Stubs) -> None:
    request = tool_execution_pb2.ExecuteStreamRequest(call=execute_request("diagnostics.echo").call)
    request.heartbeat_interval.FromSeconds(100)
    answer = refused(lambda: list(calls[0].ExecuteStream(request, timeout=SECONDS)))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert answer.fields == ["heartbeat_interval"]


@pytest.mark.parametrize("seconds", [10**9, 315_576_000_000])
def test_an_absurd_timeout_is_cut_to_what_the_tool_may_take(calls: Stubs, seconds: int) -> None:
    request = execute_request("diagnostics.echo")
    request.call.timeout.seconds = seconds
    assert calls[0].Execute(request, timeout=SECONDS).execution.result.value_json == "{}"


def test_a_deadline_that_leaves_no_time_is_refused_before_anything_starts(calls: Stubs) -> None:
    request = execute_request("diagnostics.burn", {"seconds": 1}, request_id="no-time")
    answers = [refused(lambda: calls[0].Execute(request, timeout=0.018)) for _ in range(10)]
    assert {answer.code for answer in answers} == {"DEADLINE_EXCEEDED"}
    for answer in answers:
        # The client's own bare status may win the race at such a deadline.
        assert answer.reason in ("", "CLIENT_DEADLINE")
        assert answer.metadata.get("outcome", "not_started") == "not_started"
    found = tool_execution_pb2.GetExecutionRequest(request_id="no-time")
    assert refused(lambda: calls[0].GetExecution(found, timeout=SECONDS)).reason == "RESOURCE_NOT_FOUND"


def test_arguments_of_10_mb_are_too_large_and_not_to_be_retried(calls: Stubs) -> None:
    request = execute_request("diagnostics.echo", {"text": "x" * 10_000_000})
    answer = refused(lambda: calls[0].Execute(request, timeout=SECONDS))
    assert_well_formed(answer, "RESOURCE_EXHAUSTED", "PAYLOAD_TOO_LARGE")
    assert answer.retry_seconds is None
    assert answer.trailers["grpc-retry-pushback-ms"] == "-1"
    assert answer.detail(error_details_pb2.QuotaFailure) is not None
    assert answer.metadata["limit_bytes"] == str(4 << 20)


def test_a_struct_of_10_mb_is_too_large(calls: Stubs) -> None:
    request = tool_execution_pb2.ExecuteRequest()
    request.call.tool = "diagnostics.echo"
    request.call.arguments["text"] = "x" * 10_000_000
    answer = refused(lambda: calls[0].Execute(request, timeout=SECONDS))
    assert_well_formed(answer, "RESOURCE_EXHAUSTED", "PAYLOAD_TOO_LARGE")


def test_a_message_above_the_transports_limit_gets_grpcs_own_bare_status(server: LiveServer, calls: Stubs) -> None:
    answer = refused(sent_raw(server, "Execute", b"\x0a" + b"x" * 20_000_000))
    assert answer.code == "RESOURCE_EXHAUSTED"
    assert answer.reason == ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x0a\x05\x0a\x03\xff\xfe\xfd", "UTF-8"),
        (b"\xff" * 100, "malformed"),
        (b"\x0a\xff\xff\xff\xff\x0f", "malformed"),
    ],
    ids=["invalid UTF-8", "noise", "a length without end"],
)
def test_bytes_that_are_no_request_are_refused_in_our_own_words(
    server: LiveServer, calls: Stubs, data: bytes, why: str
) -> None:
    answer = refused(sent_raw(server, "Execute", data))
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")
    assert why in answer.message


def test_fields_that_this_server_does_not_know_are_passed_over(server: LiveServer, calls: Stubs) -> None:
    known = execute_request("diagnostics.echo", {"n": 1}).SerializeToString()
    answer: Any = sent_raw(server, "Execute", known + b"\xfa\x3f\x03abc")()
    assert tool_execution_pb2.ExecuteResponse.FromString(answer).execution.result.value_json == '{"n":1}'


def test_an_rpc_that_does_not_exist_is_unimplemented(server: LiveServer, calls: Stubs) -> None:
    assert refused(sent_raw(server, "Explode", b"")).code == "UNIMPLEMENTED"


def test_metadata_beyond_its_limit_is_refused(calls: Stubs) -> None:
    metadata = (("x-large", "x" * 40_000),)
    answer = refused(lambda: calls[0].Execute(execute_request("diagnostics.echo"), timeout=SECONDS, metadata=metadata))
    assert answer.code in ("RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE")


@pytest.mark.parametrize(
    "traceparent", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01"]
)
def test_a_broken_trace_context_is_passed_over(calls: Stubs, traceparent: str) -> None:
    request = execute_request("diagnostics.echo")
    ran = calls[0].Execute(request, timeout=SECONDS, metadata=(("traceparent", traceparent),)).execution
    assert len(ran.trace_id) == 32
    assert ran.trace_id not in traceparent


def test_arguments_are_checked_without_a_call(calls: Stubs) -> None:
    catalog = calls[1]
    request = tool_catalog_pb2.ValidateArgumentsRequest(tool="diagnostics.sleep", arguments_json='{"seconds": "x"}')
    answer = catalog.ValidateArguments(request, timeout=SECONDS)
    assert (answer.valid, [found.field for found in answer.violations]) == (False, ["seconds"])
    request.arguments_json = '{"seconds": 1}'
    assert catalog.ValidateArguments(request, timeout=SECONDS).valid
    request.arguments_json = '{"seconds": '
    assert_well_formed(
        refused(lambda: catalog.ValidateArguments(request, timeout=SECONDS)), "INVALID_ARGUMENT", "INVALID_ARGUMENTS"
    )


def test_two_hundred_violations_still_fit_into_the_trailers(calls: Stubs) -> None:
    wrong = {f"unknown_argument_number_{number}": "Ä" * 50 for number in range(200)}
    answer = refused(
        lambda: calls[0].Execute(execute_request("diagnostics.sleep", {"seconds": 1, **wrong}), timeout=SECONDS)
    )
    assert_well_formed(answer, "INVALID_ARGUMENT", "INVALID_ARGUMENTS")


def test_more_calls_than_the_server_takes_are_told_when_to_come_back(tmp_path: Path) -> None:
    env = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_CONCURRENT_CALLS_LIMIT": "2"}
    with live_server(tmp_path, env=env) as small, stubs(small) as (execution, _):
        request = tool_execution_pb2.ExecuteStreamRequest(
            call=execute_request("diagnostics.sleep", {"seconds": 20}).call
        )
        streams = [execution.ExecuteStream(request, timeout=SECONDS) for _ in range(2)]
        for stream in streams:
            next(iter(stream))
        answer = refused(lambda: execution.Execute(execute_request("diagnostics.echo"), timeout=SECONDS))
        assert_well_formed(answer, "RESOURCE_EXHAUSTED", "CONCURRENCY_LIMITED")
        assert answer.retry_seconds is not None
        assert 0 < answer.retry_seconds < 5
        assert answer.metadata["outcome"] == "not_started"
        assert int(answer.trailers["grpc-retry-pushback-ms"]) > 0
        for stream in streams:
            stream.cancel()


def test_a_tool_without_a_narrow_schema_takes_everything_that_json_can_say(calls: Stubs) -> None:
    odd = {
        "": "",
        "\u0000": "\u0000",
        "🦜": ["\u202e", None],
        "a.b[0]": {"$ref": "http://127.0.0.1:1/"},
        "min": -(2**63),
    }
    answer = calls[0].Execute(execute_request("diagnostics.echo", odd), timeout=SECONDS)
    assert json.loads(answer.execution.result.value_json) == odd
