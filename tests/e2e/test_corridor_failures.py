"""Tools that fail, crash, lie and leak: the failure is in the answer, and no secret in anything a client sees."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveServer, eventually, execute_request, live_server, stubs
from tests.refused import refused
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc

Execution = tool_execution_pb2_grpc.ToolExecutionStub
TOOLS = str(Path(__file__).with_name("corridor_tools.py"))
SECONDS = 30.0
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    env = {
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_PROCESS_WORKERS": "2",
        "TOOLWRIGHT_PROCESS_MEMORY_LIMIT_BYTES": str(256 * MIB),
        "TOOLWRIGHT_RESULT_LIMIT_BYTES": str(MIB),
        "TOOLWRIGHT_OUTPUT_LIMIT_BYTES": str(MIB),
        "TOOLWRIGHT_LOOP_BLOCKED_SECONDS": "0.3",
    }
    with live_server(tmp_path_factory.mktemp("failures"), "--tools", TOOLS, env=env) as running:
        yield running


@pytest.fixture
def execution(server: LiveServer) -> Iterator[Execution]:
    with stubs(server) as (stub, _):
        yield stub


def failed(execution: Execution, tool: str, arguments: dict[str, Any]) -> tuple[common_pb2.Execution, str]:
    """The execution that failed in-band, and everything that its client saw as text."""
    answer, call = execution.Execute.with_call(execute_request(tool, arguments), timeout=SECONDS)
    assert answer.execution.state == common_pb2.STATE_FAILED
    assert not answer.execution.HasField("result")
    assert answer.execution.error.user_message
    assert answer.execution.error.suggested_action
    return answer.execution, f"{answer}{call.trailing_metadata()}{call.initial_metadata()}"


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("diagnostics.fail", {"kind": "tool_error", "message": "no"}, "TOOL_FAILED"),
        ("diagnostics.fail", {"kind": "memory"}, "MEMORY_LIMIT"),
        ("diagnostics.fail", {"kind": "exit"}, "TOOL_FAILED"),
        ("diagnostics.fail", {"kind": "output_invalid"}, "OUTPUT_INVALID"),
        ("diagnostics.crash", {"how": "SIGSEGV"}, "TOOL_CRASHED"),
        ("diagnostics.crash", {"how": "SIGKILL"}, "TOOL_CRASHED"),
        ("diagnostics.crash", {"how": "exit"}, "TOOL_CRASHED"),
        ("diagnostics.allocate", {"bytes": 1024 * MIB}, "MEMORY_LIMIT"),
        ("diagnostics.big", {"bytes": 2 * MIB}, "OUTPUT_LIMIT"),
        ("corridor.flood", {"chunks": 100, "size": 100_000}, "OUTPUT_LIMIT"),
        ("corridor.flood_sync", {"chunks": 100, "size": 100_000}, "OUTPUT_LIMIT"),
        ("corridor.leak", {"kind": "lie", "secret": "x"}, "OUTPUT_INVALID"),
    ],
)
def test_a_tool_that_ran_and_failed_says_so_in_its_answer(
    execution: Execution, tool: str, arguments: dict[str, Any], reason: str
) -> None:
    row, _ = failed(execution, tool, arguments)
    assert row.error.reason == reason
    assert row.stopped == common_pb2.STOPPED_YES
    # The same is in the record, and the next call finds a worker.
    request = tool_execution_pb2.GetExecutionRequest(execution_id=row.execution_id)
    assert execution.GetExecution(request, timeout=SECONDS).execution.error == row.error
    assert execution.Execute(execute_request("corridor.who"), timeout=SECONDS).execution.result.value_json


def test_a_stream_of_a_tool_that_failed_ends_ok_with_the_error_in_its_last_event(execution: Execution) -> None:
    request = tool_execution_pb2.ExecuteStreamRequest(call=execute_request("diagnostics.crash").call)
    events = [answer.event for answer in execution.ExecuteStream(request, timeout=SECONDS)]
    assert events[-1].finished.error.reason == "TOOL_CRASHED"


def test_a_tools_own_words_reach_the_caller(execution: Execution) -> None:
    row, _ = failed(
        execution,
        "diagnostics.fail",
        {
            "message": "taken",
            "tool_reason": "EMAIL_TAKEN",
            "user_message": "Somebody has it.",
            "suggested_action": "Use another.",
            "retryable": True,
            "retry_delay_seconds": 2,
        },
    )
    error = row.error
    assert (error.message, error.user_message, error.suggested_action) == ("taken", "Somebody has it.", "Use another.")
    assert (error.retryable, error.retry_delay.seconds, error.metadata["tool_reason"]) == (True, 2, "EMAIL_TAKEN")


@pytest.mark.parametrize(
    ("tool", "kind"),
    [
        ("corridor.leak", "exception"),
        ("corridor.leak", "chained"),
        ("corridor.leak", "lie"),
        ("corridor.leak_loop", "exception"),
        ("corridor.leak_loop", "chained"),
        ("corridor.leak_loop", "lie"),
        ("diagnostics.nest_sync", ""),
    ],
)
def test_a_secret_in_a_failure_is_in_nothing_that_the_client_sees(
    server: LiveServer, execution: Execution, tool: str, kind: str
) -> None:
    secret = f"secret-{secrets.token_hex(8)}"
    arguments: dict[str, Any] = {"kind": kind, "secret": secret}
    if tool.startswith("diagnostics."):
        arguments = {"tool": "corridor.leak", "arguments": {"kind": "exception", "secret": secret}}
    row, seen = failed(execution, tool, arguments)
    assert secret not in seen
    looked_up = tool_execution_pb2.GetExecutionRequest(execution_id=row.execution_id, value_json=True)
    found = execution.GetExecution(looked_up, timeout=SECONDS).execution
    # What the caller itself had sent, in a field that nobody marked as sensitive.
    found.ClearField("arguments_json")
    assert secret not in str(found)
    attached = tool_execution_pb2.WaitExecutionRequest(execution_id=row.execution_id)
    assert secret not in str(list(execution.WaitExecution(attached, timeout=SECONDS)))
    assert secret not in server.http("/metrics")[1]
    eventually(lambda: len(server.called(row.execution_id)) == 1)
    assert secret not in str(server.called(row.execution_id))


def test_a_tool_that_swallows_cancellation_is_reported_by_name_and_recorded_as_not_stopped(
    server: LiveServer, execution: Execution
) -> None:
    before = server.metric("toolwright_tools_stubborn_total")
    request = execute_request("diagnostics.stubborn", {"seconds": 1.5}, timeout=0.3)
    answer = refused(lambda: execution.Execute(request, timeout=SECONDS))
    assert answer.reason == "TOOL_TIMEOUT"
    execution_id = answer.metadata["execution_id"]
    looked_up = tool_execution_pb2.GetExecutionRequest(execution_id=execution_id)
    row = execution.GetExecution(looked_up, timeout=SECONDS).execution
    assert (row.state, row.stopped) == (common_pb2.STATE_TIMED_OUT, common_pb2.STOPPED_NO)
    assert server.metric("toolwright_tools_stubborn_total") == before + 1
    eventually(lambda: any(_names(line, "diagnostics.stubborn", execution_id) for line in server.lines()))
    assert server.http("/healthz")[0] == 200


def test_a_tool_that_blocks_the_loop_is_named_and_the_server_says_that_it_is_not_well(
    server: LiveServer, execution: Execution
) -> None:
    before = server.metric("toolwright_loop_blocked_total")
    call = execution.Execute.future(execute_request("diagnostics.hog", {"seconds": 2.5}), timeout=SECONDS)
    eventually(lambda: server.http("/healthz")[0] == 503, seconds=3)
    assert "diagnostics.hog" in server.http("/healthz")[1]
    assert call.result(SECONDS).execution.state == common_pb2.STATE_SUCCEEDED
    eventually(lambda: server.http("/healthz")[0] == 200)
    assert server.metric("toolwright_loop_blocked_total") == before + 1
    execution_id = call.result(SECONDS).execution.execution_id
    assert any(_names(line, "diagnostics.hog", execution_id) for line in server.lines())


def test_a_tool_that_blocks_the_loop_beyond_its_time_is_answered_with_its_timeout(execution: Execution) -> None:
    request = execute_request("diagnostics.hog", {"seconds": 1}, timeout=0.2)
    answer = refused(lambda: execution.Execute(request, timeout=SECONDS))
    assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "TOOL_TIMEOUT")


def _names(line: dict[str, Any], tool: str, execution_id: str) -> bool:
    message = str(line["message"])
    return line["level"] in ("warning", "error") and tool in message and execution_id in message
