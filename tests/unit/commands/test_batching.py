import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from toolwright.v1 import common_pb2
from toolwright_server.commands.asking import Ask
from toolwright_server.commands.batching import Asked, execute
from toolwright_server.commands.exits import Exit
from toolwright_server.main import app

from .scripted_server import Scripted, abort, execution, serving

SECONDS = 30
COMMAND = [sys.executable, "-m", "toolwright_server.main", "exec"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.delenv("TRACEPARENT", raising=False)
    script = Scripted()
    with serving(script):
        yield script


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def run(script: Scripted, file: object, *, max_parallel: int = 0, stop_on_failure: bool = False, **each: Any) -> int:
    return execute(script.address, Asked(str(file), Ask(tool="", **each), max_parallel, stop_on_failure))


def ended(state: int, reason: str = "", code: grpc.StatusCode = grpc.StatusCode.UNKNOWN, **facts: str) -> Any:
    error = common_pb2.ExecutionError(code=code.value[0], reason=reason, metadata=facts)
    return execution(state, error=error)


def test_each_line_is_a_call_and_each_result_is_a_line(
    script: Scripted, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        '{"tool": "a", "arguments": { "n" : 1.50e2, "big": 9007199254740993, "text": "x, }\\u2028" } }\n'
        "\n"
        '{ "arguments":{}, "tool":"b","request_id":"mine","tool_timeout":1.5,"labels":{"k=v":"w"},"detach":true}'
    )
    assert run(script, file, max_parallel=7, stop_on_failure=True, timeout_seconds=20, labels=["run=1"]) == Exit.OK
    out, err = capfd.readouterr()
    printed = [json.loads(line) for line in out.splitlines()]
    [request] = script.batches
    first, second = request.calls
    # As it was typed: no digit is lost.
    assert first.arguments_json == '{ "n" : 1.50e2, "big": 9007199254740993, "text": "x, }\\u2028" }'
    assert [call.tool for call in request.calls] == ["a", "b"]
    assert (second.request_id, second.detach_on_disconnect, second.timeout.ToMilliseconds()) == ("mine", True, 1500)
    assert (dict(first.labels), dict(second.labels)) == ({"run": "1"}, {"run": "1", "k=v": "w"})
    assert (request.max_parallel, request.stop_on_failure) == (7, True)
    assert [each["request_id"] for each in printed] == [first.request_id, "mine"]
    assert [each["result"]["value"] for each in printed] == [42, 42]
    assert first.request_id.endswith("-1")
    assert script.remaining is not None
    assert script.remaining < 21
    assert err == ""


def test_standard_input_is_read(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"tool": "a"}\n{"tool": "b"}\n'))
    assert run(script, "-", tool_timeout_seconds=2, detach=True) == Exit.OK
    assert [(call.tool, call.timeout.seconds, call.detach_on_disconnect) for call in script.batches[0].calls] == [
        ("a", 2, True),
        ("b", 2, True),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no call in it"),
        ('{"tool": "a"}\n{"tool": "a",}', "line 2: this is no JSON"),
        ('["a"]', "line 1: must be a JSON object"),
        ('{"arguments": {}}', "line 1: tool: is required"),
        ('{"tool": 5}', "tool: must be the name of a tool"),
        ('{"tool": "a", "arguments": [1]}', "arguments: must be an object"),
        ('{"tool": "a", "arguments": {"x": NaN}}', "NaN is not JSON"),
        ('{"tool": "a", "tool": "b"}', "tool: is given twice"),
        ('{"tool": "a", "timeout": 5}', "timeout: is not known; there are tool, arguments, request_id"),
        ('{"tool": "a", "tool_timeout": true}', "tool_timeout: must be a number"),
        ('{"tool": "a", "tool_timeout": 0}', "must be a positive number of seconds"),
        ('{"tool": "a", "labels": {"k": 1}}', "labels: must be an object of texts"),
        ('{"tool": "a", "request_id": ""}', "request_id: must be a text"),
        ('{"tool": "a"}\n' * 101, "line 101: a batch has at most 100 calls"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_and_nothing_is_sent(
    script: Scripted, file: Path, capfd: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    file.write_text(text)
    assert run(script, file) == Exit.USAGE
    assert says in capfd.readouterr().err
    assert not script.batches


def test_a_file_that_cannot_be_read_is_said(script: Scripted, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(script, file) == Exit.USAGE
    assert "No such file" in capfd.readouterr().err
    file.write_bytes(b'{"tool": "\xff"}')
    assert run(script, file) == Exit.USAGE
    assert "is not text in UTF-8" in capfd.readouterr().err
    file.write_text('{"tool": "a"}')
    assert run(script, file, max_parallel=101) == Exit.USAGE
    assert "--max-parallel 101: must be 1 to 100" in capfd.readouterr().err


DONE = execution()
CRASHED = ended(common_pb2.STATE_FAILED, "TOOL_CRASHED")
REFUSED = ended(common_pb2.STATE_REJECTED, "RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED, outcome="not_started")
STOPPED = ended(common_pb2.STATE_REJECTED, "BATCH_STOPPED", grpc.StatusCode.FAILED_PRECONDITION, outcome="not_started")
LATE = ended(common_pb2.STATE_REJECTED, "CLIENT_DEADLINE", grpc.StatusCode.DEADLINE_EXCEEDED, outcome="not_started")
UNKNOWN = ended(common_pb2.STATE_OUTCOME_UNKNOWN, "TOOL_TIMEOUT", grpc.StatusCode.DEADLINE_EXCEEDED, outcome="unknown")
GOES_ON = ended(common_pb2.STATE_RUNNING, "CLIENT_DEADLINE", grpc.StatusCode.DEADLINE_EXCEEDED, outcome="unknown")


@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        (
            [DONE, CRASHED, STOPPED],
            (Exit.TOOL_FAILED, "1 of 3 calls succeeded\n  TOOL_CRASHED: 1\n  BATCH_STOPPED: 1\n"),
        ),
        ([REFUSED, CRASHED], (Exit.REFUSED, "0 of 2 calls succeeded")),
        ([DONE, LATE, LATE], (Exit.DEADLINE, "1 of 3 calls succeeded\n  CLIENT_DEADLINE: 2\n")),
        ([REFUSED, UNKNOWN], (Exit.OUTCOME_UNKNOWN, "0 of 2")),
        ([DONE, GOES_ON], (Exit.OUTCOME_UNKNOWN, "1 of 2")),
    ],
)
def test_the_exit_code_is_that_of_the_first_failure_unless_an_outcome_is_unknown(
    script: Scripted, file: Path, capfd: pytest.CaptureFixture[str], answers: list[Any], ends: tuple[Exit, str]
) -> None:
    exit_code, says = ends
    file.write_text('{"tool": "a"}\n' * len(answers))
    script.answers = lambda _, __: answers
    assert run(script, file) == exit_code
    out, err = capfd.readouterr()
    assert says in err
    assert [json.loads(line).get("error", {}).get("reason", "") for line in out.splitlines()] == [
        each.error.reason for each in answers
    ]


def test_a_result_that_was_left_out_is_fetched(script: Scripted, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def left_out(kept: str) -> common_pb2.Execution:
        made = ended(common_pb2.STATE_SUCCEEDED, "PAYLOAD_TOO_LARGE", grpc.StatusCode.RESOURCE_EXHAUSTED, kept=kept)
        made.ClearField("result")
        return made

    file.write_text('{"tool": "a"}\n' * 2)
    script.history = [execution(value_json='"large"')]
    script.answers = lambda _, __: [left_out("true"), left_out("false")]
    assert run(script, file) == Exit.REFUSED
    fetched, secret = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert (fetched["result"]["value"], "error" in fetched) == ("large", False)
    assert (secret["error"]["reason"], "result" in secret) == ("PAYLOAD_TOO_LARGE", False)


def test_a_refused_batch_has_its_words_and_a_lost_one_is_in_doubt(
    script: Scripted, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text('{"tool": "a"}')
    script.answers = lambda _, context: abort(context, grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    assert run(script, file) == Exit.UNAVAILABLE
    assert "reason: SERVER_DRAINING" in capfd.readouterr().err
    script.answers = lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    assert run(script, file) == Exit.OUTCOME_UNKNOWN
    said = capfd.readouterr().err
    assert f"request: {script.calls[1].request_id.removesuffix('1')}*" in said


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["--max-parallel", "3", "t"],
        ["--stop-on-failure", "t"],
        ["--batch", "f", "t"],
        ["--batch", "f", "--stream"],
        ["--batch", "f", "--request-id", "r"],
    ],
)
def test_what_does_not_go_together_is_a_usage_error(typed: list[str]) -> None:
    done = CliRunner().invoke(app, ["exec", *typed])
    assert done.exit_code == Exit.USAGE, done.output


def test_a_line_on_a_terminal_says_how_far_it_is(script: Scripted, file: Path) -> None:
    looked = threading.Event()

    def answers(request: Any, context: Any) -> list[common_pb2.Execution]:
        script.history = [execution(), execution(common_pb2.STATE_FAILED), execution(common_pb2.STATE_RUNNING)]
        for each in script.history[:2]:
            each.end_time.GetCurrentTime()
        script.listed = looked.set
        assert looked.wait(SECONDS)
        return [execution() for _ in request.calls]

    file.write_text('{"tool": "a"}\n{"tool": "b", "request_id": "mine"}\n{"tool": "c"}')
    script.answers = answers
    terminal, theirs = os.openpty()
    with subprocess.Popen(
        [*COMMAND, "--batch", str(file), "--address", script.address],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        assert len(process.stdout.read().splitlines()) == 3
        assert process.wait(SECONDS) == Exit.OK
    shown = b""
    try:
        while part := os.read(terminal, 65_536):
            shown += part
    except OSError:
        pass  # the other side is closed
    finally:
        os.close(terminal)
    # This server lists two at most.
    assert b"0 running, 1 failed" in shown
    assert b"2/3" in shown
    [asked, *_] = script.filters
    assert 'OR request_id = "mine")' in asked
    assert f'(request_id = "{script.calls[0].request_id.removesuffix("1")}*"' in asked
