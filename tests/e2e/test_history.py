"""The history of a real server: what it keeps of a call, and how it is asked."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live import LiveServer, execute_request, live_server, stubs
from toolwright.v1 import audit_pb2, audit_pb2_grpc, common_pb2, tool_execution_pb2, tool_execution_pb2_grpc

from .test_commands import on_terminal, run

SECONDS = 30
TOOLS = Path(__file__).with_name("history_tools.py")
SECRET = "hunter2-swordfish"
USER = "ann"

Execution = tool_execution_pb2_grpc.ToolExecutionStub


def call(execution: Execution, tool: str, arguments: Any = None) -> common_pb2.Execution:
    given = {"user": USER, "password": SECRET} if arguments is None else arguments
    return execution.Execute(execute_request(tool, given, user_id=USER), timeout=SECONDS).execution


def got(execution: Execution, execution_id: str) -> common_pb2.Execution:
    request = tool_execution_pb2.GetExecutionRequest(execution_id=execution_id)
    return execution.GetExecution(request, timeout=SECONDS).execution


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("history"), "--tools", str(TOOLS)) as running:
        yield running


@pytest.fixture
def execution(server: LiveServer) -> Iterator[Execution]:
    with stubs(server) as (found, _):
        yield found


def test_what_is_kept_of_a_call_is_got_without_its_secrets(execution: Execution) -> None:
    kept = got(execution, call(execution, "history.login").execution_id)
    assert kept.arguments_json == f'{{"password":"[redacted]","user":"{USER}"}}'
    assert json.loads(kept.result.value_json) == {"user": USER, "token": "[redacted]"}
    assert (kept.category, kept.effect) == ("history", common_pb2.EFFECT_SIDE_EFFECT)
    assert kept.principal_id == "anonymous"


def test_an_execution_names_the_chain_of_its_audit_records(server: LiveServer, execution: Execution) -> None:
    # One with an entry before it, and one without.
    for tool in ("history.login", "diagnostics.echo"):
        ran = call(execution, tool)
        with grpc.insecure_channel(server.address) as channel:
            audit = audit_pb2_grpc.AuditServiceStub(channel)
            asked = audit_pb2.ListAuditRecordsRequest(filter=f'execution_id="{ran.execution_id}"')
            records = audit.ListAuditRecords(asked, timeout=SECONDS).records
        assert {record.chain_id for record in records} == {ran.audit_id}
        assert got(execution, ran.execution_id).audit_id == ran.audit_id


def test_a_tool_that_keeps_nothing_leaves_neither_arguments_nor_result(execution: Execution) -> None:
    ran = call(execution, "history.keep_nothing", {"user": USER, "notes": {"n": 1}})
    assert json.loads(ran.result.value_json) == {"n": 1}
    kept = got(execution, ran.execution_id)
    assert (kept.state, kept.arguments_json, kept.HasField("result")) == (common_pb2.STATE_SUCCEEDED, "", False)


def test_the_reader_of_a_stream_gets_the_answer_as_it_is_and_later_readers_what_is_kept(execution: Execution) -> None:
    request = tool_execution_pb2.ExecuteStreamRequest(
        call=execute_request("history.login", {"user": USER, "password": SECRET}).call
    )
    *_, last = execution.ExecuteStream(request, timeout=SECONDS)
    assert json.loads(last.event.finished.result.value_json)["token"] == SECRET
    again = tool_execution_pb2.WaitExecutionRequest(execution_id=last.event.execution_id)
    *_, kept = execution.WaitExecution(again, timeout=SECONDS)
    assert json.loads(kept.event.finished.result.value_json)["token"] == "[redacted]"


def test_arguments_are_answered_for_one_call_and_not_in_lists(execution: Execution) -> None:
    ran = call(execution, "history.login")
    assert ran.arguments_json == ""
    page = execution.ListExecutions(tool_execution_pb2.ListExecutionsRequest(), timeout=SECONDS)
    assert all(not each.arguments_json for each in page.executions)


@pytest.mark.parametrize(
    ("condition", "tools"),
    [
        ("", {"history.nest", "history.login", "history.fail"}),
        ("parent_execution_id:*", {"history.login"}),
        ("NOT parent_execution_id:*", {"history.nest", "history.fail"}),
        ("state = FAILED OR tool = history.n*", {"history.fail", "history.nest"}),
        ("state != FAILED AND category = history", {"history.login", "history.nest"}),
        ("labels:mark AND create_time > 2020-01-01T00:00:00Z", {"history.nest"}),
        ("end_time < 2020-01-01T00:00:00Z", set[str]()),
    ],
)
def test_a_list_is_what_its_filter_means(execution: Execution, condition: str, tools: set[str]) -> None:
    session = f"filtered {condition}"
    nest = execute_request("history.nest", {"user": USER, "password": SECRET}, session_id=session)
    nest.call.labels["mark"] = ""
    execution.Execute(nest, timeout=SECONDS)
    failing = execute_request("history.fail", {"user": USER, "password": SECRET}, session_id=session)
    execution.Execute(failing, timeout=SECONDS)
    asked = f"session_id = {json.dumps(session)}" + (f" AND ({condition})" if condition else "")
    page = execution.ListExecutions(tool_execution_pb2.ListExecutionsRequest(filter=asked), timeout=SECONDS)
    assert {each.tool for each in page.executions} == tools


def test_the_tree_of_a_task_is_asked_for_by_its_id(execution: Execution) -> None:
    root = call(execution, "history.nest")
    request = tool_execution_pb2.ListExecutionsRequest(filter=f"task_id = {root.execution_id}")
    found = execution.ListExecutions(request, timeout=SECONDS).executions
    assert [(each.tool, each.parent_execution_id) for each in found] == [
        ("history.login", root.execution_id),
        ("history.nest", ""),
    ]


BLOCK = re.findall(r"```sh\n(.*?)```", (Path(__file__).parents[2] / "docs" / "history.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("command", BLOCK[0].splitlines())
def test_the_commands_of_the_document_do_what_they_are_for(
    server: LiveServer, execution: Execution, command: str
) -> None:
    request = execute_request("history.nest", {"user": USER, "password": SECRET}, request_id="of-the-document")
    request.call.labels["team"] = "sales"
    ran = execution.Execute(request, timeout=SECONDS).execution
    known = {"EXECUTION_ID": ran.execution_id, "REQUEST_ID": "of-the-document"}
    words = [known.get(word.removeprefix("$"), word) for word in shlex.split(command)[1:]]
    ended = run(*words, TOOLWRIGHT_ADDRESS=server.address)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    if "--tree" in words:
        assert [(each["tool"], each["depth"]) for each in found] == [("history.nest", 0), ("history.login", 1)]
    elif words[0] == "show":
        assert found["execution_id"] == ran.execution_id
        assert found["arguments"] == {"user": USER, "password": "[redacted]"}
    elif "--label" in words:
        assert ran.execution_id in [each["execution_id"] for each in found]
    else:
        assert found == []
    assert SECRET not in ended.stdout


def test_people_get_a_table_a_page_and_a_tree(server: LiveServer, execution: Execution) -> None:
    root = call(execution, "history.nest")
    call(execution, "history.fail")
    code, table = on_terminal("history", "--tool", "history.*", "--limit", "3", TOOLWRIGHT_ADDRESS=server.address)
    assert code == 0
    assert [line.split()[2] for line in table.splitlines()[1:]] == ["history.fail", "history.login", "history.nest"]
    assert "FAILED TOOL_FAILED" in table
    code, shown = on_terminal("show", root.execution_id, TOOLWRIGHT_ADDRESS=server.address)
    assert code == 0
    assert f"execution id: {root.execution_id}" in shown
    assert "[redacted]" in shown
    code, tree = on_terminal("show", root.execution_id, "--tree", TOOLWRIGHT_ADDRESS=server.address)
    assert code == 0
    lines = [line for line in tree.splitlines() if "history." in line]
    assert "history.nest" in lines[0]
    assert "── " in lines[1]
    assert "history.login" in lines[1]
    assert SECRET not in table + shown + tree


def test_people_get_usage_as_a_table(server: LiveServer, execution: Execution) -> None:
    call(execution, "history.login")
    code, table = on_terminal("stats", TOOLWRIGHT_ADDRESS=server.address)
    assert code == 0
    assert any(line.split()[:3:2] == ["history.login", "100.0%"] for line in table.splitlines())
    assert "(UTC)" in table.splitlines()[-1]
