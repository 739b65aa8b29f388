import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # pyright: ignore[reportMissingTypeStubs]

from toolwright.v1 import common_pb2
from toolwright_server.commands.asking import Ask
from toolwright_server.commands.executing import execute
from toolwright_server.commands.exits import Exit

from .scripted_server import Scripted, abort, event, execution, retry_after, serving

Code = grpc.StatusCode
NOTHING: dict[str, str] = {}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.delenv("TRACEPARENT", raising=False)
    script = Scripted()
    with serving(script):
        yield script


def run(script: Scripted, *arguments: str, stream: bool = False, as_json: bool = False, **options: Any) -> int:
    ask = Ask(tool="t", arguments=arguments, **options)
    return execute(script.address, ask, stream=stream, as_json=as_json)


def test_the_result_is_one_line_of_json(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    script.answer = lambda _: execution(value_json='{"id": 7, "name": "Zoë"}')
    assert run(script, "name=Zoë") == Exit.OK
    assert capfd.readouterr() == ('{"id":7,"name":"Zoë"}\n', "")
    assert json.loads(script.calls[0].arguments_json) == {"name": "Zoë"}


def test_the_whole_execution_is_printed_when_json_is_asked_for(
    script: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(script, as_json=True) == Exit.OK
    printed = json.loads(capfd.readouterr().out)
    assert (printed["execution_id"], printed["state"], printed["result"]["value"]) == ("e-1", "SUCCEEDED", 42)


def test_deadline_labels_request_id_and_trace_reach_the_server(
    script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    monkeypatch.setenv("TRACEPARENT", parent)
    assert run(script, timeout_seconds=20, tool_timeout_seconds=3, request_id="r-1", labels=["a=b"], detach=True) == 0
    call = script.calls[0]
    assert (call.request_id, dict(call.labels), call.detach_on_disconnect, call.timeout.seconds) == (
        "r-1",
        {"a": "b"},
        True,
        3,
    )
    assert script.metadata["traceparent"] == parent
    assert script.remaining is not None
    assert script.remaining < 21


def test_a_tool_that_failed_is_told_with_what_to_do(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    error = common_pb2.ExecutionError(
        code=2,
        reason="TOOL_FAILED",
        message="no such mail",
        user_message="It went wrong.",
        suggested_action="Try mail 2.",
        metadata={"tool_reason": "MAIL_UNKNOWN"},
    )
    script.answer = lambda _: execution(common_pb2.STATE_FAILED, error=error, request_id="r-1")
    assert run(script) == Exit.TOOL_FAILED
    assert capfd.readouterr() == (
        "",
        (
            "toolwright: It went wrong.\n  reason: TOOL_FAILED\n  tool reason: MAIL_UNKNOWN\n  detail: no such mail\n"
            "  try: Try mail 2.\n  execution: e-1\n  request: r-1\n"
        ),
    )


def test_why_it_was_not_tried_again_and_nothing_else_answered_is_told(
    script: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    facts = {"no_retry": "4 attempts were made", "fallback": "b was refused: BUDGET_EXCEEDED"}
    error = common_pb2.ExecutionError(code=2, reason="TOOL_FAILED", message="gone", metadata=facts)
    script.answer = lambda _: execution(common_pb2.STATE_FAILED, error=error)
    assert run(script) == Exit.TOOL_FAILED
    told = capfd.readouterr().err
    assert "  no retry: 4 attempts were made\n  fallback: b was refused: BUDGET_EXCEEDED\n" in told


@pytest.mark.parametrize("by", ["", "b"])
def test_an_answer_in_the_place_of_the_tool_is_told_as_such(
    script: Scripted, capfd: pytest.CaptureFixture[str], by: str
) -> None:
    def answer(_: common_pb2.ToolCall) -> common_pb2.Execution:
        made = execution(value_json="[]")
        made.result.fallback_tool = by
        made.result.replaced_error.reason, made.result.replaced_error.message = "TOOL_FAILED", "gone"
        return made

    script.answer = answer
    assert run(script) == Exit.OK
    printed = capfd.readouterr()
    assert printed.out == "[]\n"
    assert printed.err == f"toolwright: answered by {by or 'a fixed value'} in the place of t: TOOL_FAILED: gone\n"


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        ((Code.NOT_FOUND, "TOOL_NOT_FOUND", NOTHING), Exit.NOT_FOUND),
        ((Code.INVALID_ARGUMENT, "INVALID_ARGUMENTS", NOTHING), Exit.INVALID_ARGUMENTS),
        ((Code.RESOURCE_EXHAUSTED, "CONCURRENCY_LIMITED", NOTHING), Exit.REFUSED),
        ((Code.FAILED_PRECONDITION, "TOOL_DISABLED", NOTHING), Exit.REFUSED),
        ((Code.PERMISSION_DENIED, "FORBIDDEN", NOTHING), Exit.REFUSED),
        ((Code.DEADLINE_EXCEEDED, "TOOL_TIMEOUT", {"outcome": "none"}), Exit.DEADLINE),
        ((Code.DEADLINE_EXCEEDED, "TOOL_TIMEOUT", {"outcome": "not_started"}), Exit.DEADLINE),
        ((Code.DEADLINE_EXCEEDED, "TOOL_TIMEOUT", {"outcome": "unknown"}), Exit.OUTCOME_UNKNOWN),
        ((Code.CANCELLED, "CANCELLED", {"outcome": "none"}), Exit.CANCELLED),
        ((Code.UNAVAILABLE, "SERVER_DRAINING", {"outcome": "not_started"}), Exit.UNAVAILABLE),
        ((Code.ABORTED, "OUTCOME_UNKNOWN", NOTHING), Exit.OUTCOME_UNKNOWN),
        ((Code.INTERNAL, "INTERNAL", NOTHING), Exit.INTERNAL),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_each_status_has_its_words_and_its_exit_code(
    script: Scripted,
    capfd: pytest.CaptureFixture[str],
    status: tuple[grpc.StatusCode, str, dict[str, str]],
    exit_code: Exit,
    stream: bool,
) -> None:
    code, reason, metadata = status
    script.answer = lambda context: abort(context, code, reason, **metadata)
    script.events = lambda context: abort(context, code, reason, **metadata)
    assert run(script, stream=stream) == exit_code
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.startswith(
        f"toolwright: People read {reason}.\n  reason: {reason}\n  detail: developers read {reason}\n"
        f"  try: Do what {reason} asks.\n  execution: e-1\n  request: "
    )


def test_each_wrong_field_and_the_retry_delay_are_told(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    request = error_details_pb2.BadRequest()
    request.field_violations.add(field="tags[2]", description="is too long")
    request.field_violations.add(description="lacks name")
    script.answer = lambda context: abort(context, Code.INVALID_ARGUMENT, "INVALID_ARGUMENTS", request, retry_after(3))
    assert run(script) == Exit.INVALID_ARGUMENTS
    told = capfd.readouterr().err
    assert "  tags[2]: is too long\n  arguments: lacks name\n" in told
    assert "  retry: after 3 s\n" in told


def test_a_status_without_our_details_is_told_as_it_is(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    script.answer = lambda context: context.abort(Code.RESOURCE_EXHAUSTED, "a proxy says no")
    assert run(script) == Exit.REFUSED
    assert "The call failed: RESOURCE_EXHAUSTED: a proxy says no" in capfd.readouterr().err


def test_a_bare_unavailable_in_the_middle_of_a_call_leaves_the_outcome_open(
    script: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    script.answer = lambda context: context.abort(Code.UNAVAILABLE, "Socket closed")
    assert run(script, request_id="r-1") == Exit.OUTCOME_UNKNOWN
    told = capfd.readouterr().err
    assert "The connection was lost during the call: Socket closed" in told
    assert "request: r-1" in told


def test_the_callers_own_deadline_is_a_deadline(script: Scripted) -> None:
    script.answer = script.hold
    assert run(script, timeout_seconds=0.2) == Exit.DEADLINE
    assert script.cancelled.wait(10)


def test_a_server_without_our_services_is_named_as_such(capfd: pytest.CaptureFixture[str]) -> None:
    from concurrent import futures  # noqa: PLC0415

    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert execute(f"127.0.0.1:{port}", Ask(tool="t"), stream=False, as_json=False) == Exit.INTERNAL
    finally:
        server.stop(None).wait(10)
    assert "does not offer toolwright.v1" in capfd.readouterr().err


def test_no_server_is_a_sentence_and_not_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute("127.0.0.1:1", Ask(tool="t"), stream=False, as_json=False) == Exit.UNAVAILABLE
    assert capfd.readouterr().err.startswith("toolwright: there is no server at 127.0.0.1:1; start one with")


@pytest.mark.parametrize("address", ["nonsense", "host:port", "unix:", "http://127.0.0.1:1", "\udcff:1"])
def test_an_address_that_is_none_is_a_usage_error(capfd: pytest.CaptureFixture[str], address: str) -> None:
    assert execute(address, Ask(tool="t"), stream=False, as_json=False) == Exit.USAGE
    assert "toolwright: --address: " in capfd.readouterr().err


def test_a_stream_is_one_json_document_for_each_event(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    script.events = lambda _: iter(
        [
            event(0, snapshot=execution(common_pb2.STATE_RUNNING)),
            event(1, progress=common_pb2.Progress(progress=1, total=2)),
            event(2, output=common_pb2.Output(channel="output", text="line\n")),
            event(3, finished=execution()),
        ]
    )
    assert run(script, stream=True) == Exit.OK
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["sequence"] for line in lines] == [0, 1, 2, 3]
    assert lines[1]["progress"] == {"progress": 1.0, "total": 2.0}
    assert lines[3]["finished"]["result"]["value"] == 42


def test_a_stream_of_a_tool_that_fails_ends_with_its_error_and_exit_code(
    script: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    error = common_pb2.ExecutionError(code=2, reason="TOOL_FAILED", user_message="It went wrong.")
    script.events = lambda _: iter([event(1, finished=execution(common_pb2.STATE_FAILED, error=error))])
    assert run(script, stream=True) == Exit.TOOL_FAILED
    told = capfd.readouterr()
    assert json.loads(told.out)["finished"]["state"] == "FAILED"
    assert "It went wrong." in told.err


def test_a_reader_that_was_too_slow_attaches_again_after_what_it_has_read(
    script: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    def lagging(context: Any) -> Iterator[common_pb2.ExecutionEvent]:
        yield event(1, progress=common_pb2.Progress(progress=1))
        yield event(9, heartbeat=common_pb2.Heartbeat())
        abort(context, Code.ABORTED, "SLOW_CONSUMER")

    script.events = lagging
    script.rest = lambda _: iter(
        [event(9, snapshot=execution(common_pb2.STATE_RUNNING)), event(2, finished=execution())]
    )
    assert run(script, stream=True) == Exit.OK
    assert [(each.execution_id, each.after_sequence) for each in script.attached] == [("e-1", 1)]
    assert len(script.calls) == 1
    assert [json.loads(line)["sequence"] for line in capfd.readouterr().out.splitlines()] == [1, 9, 9, 2]


def test_a_stream_that_ends_without_an_end_leaves_the_outcome_open(script: Scripted) -> None:
    script.events = lambda _: iter([event(1, progress=common_pb2.Progress(progress=1))])
    assert run(script, stream=True) == Exit.OUTCOME_UNKNOWN


def test_what_a_server_says_cannot_steer_the_terminal(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    error = common_pb2.ExecutionError(code=2, reason="TOOL_FAILED", user_message="\x1b[2Jgone\x07")
    script.answer = lambda _: execution(common_pb2.STATE_FAILED, error=error)
    run(script)
    assert "\x1b" not in capfd.readouterr().err
