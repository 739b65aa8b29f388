"""One call, end to end, over a real server: run, stream, look up, list, re-attach, cancel, go on alone."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from tests.live import LiveServer, alive, eventually, execute_request, live_server, stubs
from tests.refused import refused, unpacked
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc

Execution = tool_execution_pb2_grpc.ToolExecutionStub
TOOLS = str(Path(__file__).with_name("corridor_tools.py"))
SECONDS = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    env = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_EVENTS_LIMIT_BYTES": "40000"}
    env |= {"TOOLWRIGHT_EVENTS_SPILL_LIMIT_BYTES": "60000", "TOOLWRIGHT_PROCESS_WORKERS": "2"}
    env |= {"TOOLWRIGHT_CATEGORY_TIMEOUTS_SECONDS": '{"corridor": 7}'}
    with live_server(tmp_path_factory.mktemp("calls"), "--tools", TOOLS, env=env) as running:
        yield running


@pytest.fixture
def execution(server: LiveServer) -> Iterator[Execution]:
    with stubs(server) as (stub, _):
        yield stub


def streamed(tool: str, arguments: dict[str, Any], **fields: Any) -> tool_execution_pb2.ExecuteStreamRequest:
    return tool_execution_pb2.ExecuteStreamRequest(call=execute_request(tool, arguments, **fields).call)


def look_up(execution: Execution, execution_id: str) -> common_pb2.Execution:
    request = tool_execution_pb2.GetExecutionRequest(execution_id=execution_id)
    return execution.GetExecution(request, timeout=SECONDS).execution


def wait(execution: Execution, execution_id: str, after: int = 0) -> list[common_pb2.ExecutionEvent]:
    request = tool_execution_pb2.WaitExecutionRequest(execution_id=execution_id, after_sequence=after)
    return [answer.event for answer in execution.WaitExecution(request, timeout=SECONDS)]


def kinds(events: list[common_pb2.ExecutionEvent]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


def test_a_call_answers_json_with_json_and_a_record_of_what_happened(server: LiveServer, execution: Execution) -> None:
    given = {"big": 2**63 - 1, "text": "Ä", "list": [1, 1.5, None, True]}
    answer, call = execution.Execute.with_call(
        execute_request("diagnostics.echo", given, user_id="ada", session_id="s-1", agent_id="a-1", request_id="r-1"),
        timeout=SECONDS,
    )
    ran = answer.execution
    assert ran.state == common_pb2.STATE_SUCCEEDED
    assert ran.result.WhichOneof("value_form") == "value_json"
    assert json.loads(ran.result.value_json) == given
    assert (ran.tenant_id, ran.user_id, ran.session_id, ran.agent_id) == ("default", "ada", "s-1", "a-1")
    assert ran.task_id == ran.execution_id
    assert ran.stopped == common_pb2.STOPPED_YES
    assert ran.usage.attempts == 1
    assert len(ran.trace_id) == 32
    assert ran.server_id
    assert ("toolwright-execution-id", ran.execution_id) in list(call.trailing_metadata() or ())
    eventually(lambda: len(server.called(ran.execution_id)) == 1)
    assert server.called(ran.execution_id)[0]["trace_id"] == ran.trace_id


def test_a_call_answers_a_struct_with_a_value(execution: Execution) -> None:
    request = tool_execution_pb2.ExecuteRequest()
    request.call.tool = "diagnostics.echo"
    request.call.arguments.update({"a": 1, "b": ["x", {"c": None}]})
    result = execution.Execute(request, timeout=SECONDS).execution.result
    assert result.WhichOneof("value_form") == "value"
    assert json_format.MessageToDict(result.value) == {"a": 1, "b": ["x", {"c": None}]}


def test_a_recorded_result_is_given_as_json_on_demand(execution: Execution) -> None:
    request = tool_execution_pb2.ExecuteRequest()
    request.call.tool = "diagnostics.echo"
    ran = execution.Execute(request, timeout=SECONDS).execution
    again = tool_execution_pb2.GetExecutionRequest(execution_id=ran.execution_id, value_json=True)
    assert execution.GetExecution(again, timeout=SECONDS).execution.result.value_json == "{}"


def test_a_stream_begins_with_a_snapshot_counts_its_events_and_ends_with_one_finished(execution: Execution) -> None:
    request = streamed("diagnostics.count", {"steps": 5, "interval_seconds": 0.01})
    events = [answer.event for answer in execution.ExecuteStream(request, timeout=SECONDS)]
    found = kinds(events)
    assert found[0] == "snapshot"
    assert found.count("snapshot") == found.count("finished") == 1
    assert found[-1] == "finished"
    numbered = [event.sequence for event in events[1:]]
    assert numbered == list(range(1, len(numbered) + 1))
    assert [event.progress.progress for event in events if event.WhichOneof("event") == "progress"] == [1, 2, 3, 4, 5]
    assert json.loads(events[-1].finished.result.value_json) == {"steps": 5}
    assert events[-1].finished.last_sequence == events[-1].sequence


def test_an_execution_is_found_by_its_id_and_by_the_id_its_caller_gave(execution: Execution) -> None:
    ran = execution.Execute(execute_request("diagnostics.echo", {"n": 1}, request_id="mine-1"), timeout=SECONDS)
    by_request = tool_execution_pb2.GetExecutionRequest(request_id="mine-1")
    by_id = look_up(execution, ran.execution.execution_id)
    for found in (by_id, execution.GetExecution(by_request, timeout=SECONDS).execution):
        assert found.arguments_json == '{"n":1}'
        found.ClearField("arguments_json")
        assert found == ran.execution


def test_a_list_is_filtered_and_paged_without_a_gap(execution: Execution) -> None:
    made = [
        execution.Execute(
            execute_request("diagnostics.echo", {"n": number}, session_id="paged"), timeout=SECONDS
        ).execution.execution_id
        for number in range(5)
    ]
    refused(lambda: execution.Execute(execute_request("diagnostics.none", session_id="paged"), timeout=SECONDS))
    found: list[str] = []
    token = ""
    while True:
        request = tool_execution_pb2.ListExecutionsRequest(
            page_size=2, page_token=token, filter='session_id = "paged" AND state = "SUCCEEDED"'
        )
        page = execution.ListExecutions(request, timeout=SECONDS)
        assert len(page.executions) <= 2
        assert not any(row.HasField("result") for row in page.executions)
        found += [row.execution_id for row in page.executions]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]


def test_a_second_connection_attaches_in_the_middle_and_misses_nothing(
    server: LiveServer, execution: Execution
) -> None:
    request = streamed("diagnostics.count", {"steps": 60, "interval_seconds": 0.02}, detach_on_disconnect=True)
    stream = execution.ExecuteStream(request, timeout=SECONDS)
    seen = 0
    execution_id = ""
    for answer in stream:
        execution_id, seen = answer.event.execution_id, answer.event.sequence
        if seen >= 10:
            break
    stream.cancel()
    with stubs(server) as (second, _):
        events = wait(second, execution_id, after=seen)
    assert kinds(events)[0] == "snapshot"
    assert events[0].snapshot.state == common_pb2.STATE_RUNNING
    numbered = [event.sequence for event in events[1:]]
    assert numbered == list(range(seen + 1, seen + 1 + len(numbered)))
    assert events[-1].finished.state == common_pb2.STATE_SUCCEEDED


def test_a_negative_sequence_attaches_to_what_happens_from_now_on(execution: Execution) -> None:
    ran = execution.Execute(execute_request("diagnostics.count", {"steps": 3, "interval_seconds": 0}), timeout=SECONDS)
    assert kinds(wait(execution, ran.execution.execution_id, after=-1)) == ["snapshot", "finished"]


def test_attaching_before_the_first_kept_event_says_where_to_begin(execution: Execution) -> None:
    ran = execution.Execute(execute_request("corridor.flood", {"chunks": 100, "size": 2000}), timeout=SECONDS)
    execution_id = ran.execution.execution_id
    gone = refused(lambda: wait(execution, execution_id))
    assert (gone.code, gone.reason) == ("OUT_OF_RANGE", "EVENTS_EXPIRED")
    first = int(gone.metadata["first_sequence"])
    events = wait(execution, execution_id, after=first - 1)
    assert events[1].sequence == first
    assert events[-1].finished.state == common_pb2.STATE_SUCCEEDED


def test_a_cancelled_execution_answers_its_caller_and_stands_in_the_record(execution: Execution) -> None:
    call = execution.Execute.future(execute_request("diagnostics.sleep", {"seconds": 30}, request_id="c-1"))
    execution_id = _running(execution, "c-1").execution_id
    execution.CancelExecution(tool_execution_pb2.CancelExecutionRequest(execution_id=execution_id), timeout=SECONDS)
    answer = refused(lambda: call.result(SECONDS))
    assert (answer.code, answer.reason) == ("CANCELLED", "CANCELLED")
    assert answer.metadata["execution_id"] == execution_id
    row = look_up(execution, execution_id)
    assert (row.state, row.stopped) == (common_pb2.STATE_CANCELLED, common_pb2.STOPPED_YES)
    # One that has ended is answered as it is.
    again = tool_execution_pb2.CancelExecutionRequest(execution_id=execution_id)
    assert execution.CancelExecution(again, timeout=SECONDS).execution.state == common_pb2.STATE_CANCELLED


def test_a_cancelled_side_effect_has_an_unknown_outcome(execution: Execution) -> None:
    call = execution.Execute.future(execute_request("corridor.act", {"seconds": 6}, request_id="c-2"))
    execution_id = _running(execution, "c-2").execution_id
    execution.CancelExecution(tool_execution_pb2.CancelExecutionRequest(execution_id=execution_id), timeout=SECONDS)
    assert refused(lambda: call.result(SECONDS)).metadata["outcome"] == "unknown"
    assert look_up(execution, execution_id).state == common_pb2.STATE_OUTCOME_UNKNOWN


def test_a_caller_that_leaves_takes_its_call_along(execution: Execution) -> None:
    call = execution.Execute.future(execute_request("diagnostics.spawn", {"seconds": 30}, request_id="left-1"))
    execution_id = _running(execution, "left-1").execution_id
    call.cancel()
    eventually(lambda: look_up(execution, execution_id).state == common_pb2.STATE_CANCELLED)
    eventually(lambda: look_up(execution, execution_id).stopped == common_pb2.STOPPED_YES)


def test_a_detached_call_goes_on_when_its_client_left_and_is_found_afterwards(
    server: LiveServer, execution: Execution
) -> None:
    with stubs(server) as (leaving, _):
        call = leaving.Execute.future(
            execute_request("diagnostics.sleep", {"seconds": 0.5}, request_id="d-1", detach_on_disconnect=True)
        )
        _running(execution, "d-1")
        call.cancel()
    found = tool_execution_pb2.GetExecutionRequest(request_id="d-1")
    eventually(lambda: execution.GetExecution(found, timeout=SECONDS).execution.state == common_pb2.STATE_SUCCEEDED)


def test_a_detached_call_outlives_the_deadline_of_its_caller(execution: Execution) -> None:
    request = execute_request("diagnostics.sleep", {"seconds": 1}, request_id="d-2", detach_on_disconnect=True)
    answer = refused(lambda: execution.Execute(request, timeout=0.5))
    assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "CLIENT_DEADLINE")
    assert answer.metadata["outcome"] == "unknown"
    execution_id = answer.metadata["execution_id"]
    assert wait(execution, execution_id)[-1].finished.state == common_pb2.STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("tool", "client", "timeout", "source"),
    [
        ("diagnostics.echo", 2.0, None, "CLIENT"),
        ("diagnostics.echo", 20.0, 1.5, "REQUEST"),
        ("corridor.short", 20.0, None, "TOOL"),
        ("corridor.act", 20.0, None, "CATEGORY"),
    ],
)
def test_the_shortest_limit_is_named_as_the_source_of_the_deadline(
    execution: Execution, tool: str, client: float, timeout: float | None, source: str
) -> None:
    fields = {} if timeout is None else {"timeout": timeout}
    arguments = {} if tool.endswith("echo") else {"seconds": 0.0}
    ran = execution.Execute(execute_request(tool, arguments, **fields), timeout=client).execution
    assert common_pb2.DeadlineSource.Name(ran.deadline_source) == f"DEADLINE_SOURCE_{source}"


def test_the_servers_own_maximum_is_named_as_the_source_of_the_deadline(tmp_path: Path) -> None:
    env = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_MAXIMUM_TIMEOUT_SECONDS": "0.2"}
    with live_server(tmp_path, env=env) as short, stubs(short) as (execution, _):
        answer = refused(
            lambda: execution.Execute(execute_request("diagnostics.sleep", {"seconds": 9}, timeout=99), timeout=SECONDS)
        )
        assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "TOOL_TIMEOUT")
        assert (answer.metadata["source"], answer.metadata["outcome"]) == ("SERVER", "none")
        assert answer.metadata["limit_seconds"] == "0.200"


def test_a_stream_ends_with_the_status_of_its_execution_after_everything_was_said(execution: Execution) -> None:
    stream = execution.ExecuteStream(
        streamed("diagnostics.count", {"steps": 1000, "interval_seconds": 0.05}, timeout=0.5), timeout=SECONDS
    )
    events: list[common_pb2.ExecutionEvent] = []
    with pytest.raises(grpc.RpcError) as ended:
        events.extend(answer.event for answer in stream)
    assert unpacked(ended.value).reason == "TOOL_TIMEOUT"


def test_a_slow_reader_never_holds_up_the_tool(server: LiveServer, execution: Execution) -> None:
    request = streamed("diagnostics.count", {"steps": 200_000, "interval_seconds": 0}, request_id="slow-1")
    stream = execution.ExecuteStream(request, timeout=40)
    first = next(iter(stream)).event
    done = threading.Event()

    def follow_from_elsewhere() -> None:
        with stubs(server) as (second, _):
            wait(second, first.execution_id, after=-1)
        done.set()

    reader = threading.Thread(target=follow_from_elsewhere)
    reader.start()
    assert done.wait(30)
    reader.join(5)
    # The reader that slept gets what is left of the droppable events, and the end.
    last = first
    for answer in stream:
        assert answer.event.sequence >= last.sequence
        last = answer.event
    assert last.WhichOneof("event") == "finished"
    assert last.finished.state == common_pb2.STATE_SUCCEEDED
    assert alive(server.pid)


def test_a_reader_that_misses_what_must_not_be_dropped_is_told_to_attach_again(
    server: LiveServer, execution: Execution
) -> None:
    stream = execution.ExecuteStream(streamed("corridor.flood", {"chunks": 3000, "size": 10_000}), timeout=SECONDS)
    execution_id = next(iter(stream)).event.execution_id
    eventually(lambda: look_up(execution, execution_id).state == common_pb2.STATE_SUCCEEDED, SECONDS)
    answer = refused(lambda: list(stream))
    assert (answer.code, answer.reason) == ("ABORTED", "SLOW_CONSUMER")
    seen = int(answer.metadata["last_read_sequence"])
    # More has gone since it was told: the answer says where what is kept begins now.
    gone = refused(lambda: wait(execution, execution_id, after=seen))
    assert gone.reason == "EVENTS_EXPIRED"
    first = int(gone.metadata["first_sequence"])
    assert wait(execution, execution_id, after=first - 1)[-1].finished.state == common_pb2.STATE_SUCCEEDED


def _running(execution: Execution, request_id: str) -> common_pb2.Execution:
    """The caller's execution, as soon as it runs."""
    request = tool_execution_pb2.GetExecutionRequest(request_id=request_id)
    found: list[common_pb2.Execution] = []

    def runs() -> bool:
        try:
            row = execution.GetExecution(request, timeout=SECONDS).execution
        except grpc.RpcError:
            return False
        found.append(row)
        return row.state == common_pb2.STATE_RUNNING

    eventually(runs)
    return found[-1]
