"""Calls within calls, and calls without a worker: ids are inherited, and nobody waits for what an ancestor holds."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live import LiveServer, eventually, execute_request, live_server, stubs
from tests.refused import refused
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc

Execution = tool_execution_pb2_grpc.ToolExecutionStub
TOOLS = str(Path(__file__).with_name("corridor_tools.py"))
SECONDS = 30.0
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACED = (("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01"),)


def settings(workers: int, extra: int, queue: int) -> dict[str, str]:
    return {
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_PROCESS_WORKERS": str(workers),
        "TOOLWRIGHT_PROCESS_EXTRA_WORKERS": str(extra),
        "TOOLWRIGHT_PROCESS_QUEUE_LIMIT": str(queue),
        "TOOLWRIGHT_NESTING_LIMIT": "4",
    }


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One worker, none for nested calls, one place in the queue."""
    with live_server(tmp_path_factory.mktemp("narrow"), "--tools", TOOLS, env=settings(1, 0, 1)) as running:
        yield running


@pytest.fixture
def execution(narrow: LiveServer) -> Iterator[Execution]:
    with stubs(narrow) as (stub, _):
        yield stub


def look_up(execution: Execution, **key: str) -> common_pb2.Execution | None:
    try:
        request = tool_execution_pb2.GetExecutionRequest(**key)  # pyright: ignore[reportArgumentType] (one key)
        return execution.GetExecution(request, timeout=SECONDS).execution
    except grpc.RpcError:
        return None


def children(execution: Execution, parent: str) -> list[common_pb2.Execution]:
    request = tool_execution_pb2.ListExecutionsRequest(filter=f'parent_execution_id = "{parent}"')
    return list(execution.ListExecutions(request, timeout=SECONDS).executions)


def occupied(execution: Execution, request_id: str, seconds: float = 20) -> Any:
    """A call that holds the only worker, once it does."""
    call = execution.Execute.future(
        execute_request("diagnostics.burn", {"seconds": seconds}, request_id=request_id), timeout=SECONDS
    )
    eventually(lambda: _state(execution, request_id) == common_pb2.STATE_RUNNING)
    return call


def _state(execution: Execution, request_id: str) -> int | None:
    row = look_up(execution, request_id=request_id)
    return None if row is None else row.state


def _released(execution: Execution, *request_ids: str) -> None:
    eventually(lambda: all(_state(execution, each) == common_pb2.STATE_CANCELLED for each in request_ids))


@pytest.mark.parametrize(
    ("outer", "inner"), [("nest", "diagnostics.echo"), ("nest", "corridor.who"), ("nest_sync", "diagnostics.echo")]
)
def test_a_nested_call_is_a_child_in_the_same_task_and_trace(execution: Execution, outer: str, inner: str) -> None:
    arguments = {} if inner.endswith("who") else {"n": 1}
    request = execute_request(
        f"diagnostics.{outer}", {"tool": inner, "arguments": arguments}, task_id="task-7", user_id="ada", session_id="s"
    )
    ran = execution.Execute(request, timeout=SECONDS, metadata=TRACED).execution
    assert ran.state == common_pb2.STATE_SUCCEEDED, ran
    (child,) = children(execution, ran.execution_id)
    assert (child.tool, child.task_id, child.user_id, child.session_id) == (inner, "task-7", "ada", "s")
    assert ran.trace_id == child.trace_id == TRACE_ID
    assert child.deadline.ToNanoseconds() <= ran.deadline.ToNanoseconds() + 2_000_000
    if inner.endswith("who"):
        said = {"execution_id": child.execution_id, "task_id": "task-7", "user": "ada"}
        assert json.loads(ran.result.value_json) == said


def test_a_task_is_named_after_its_root_when_the_caller_names_none(execution: Execution) -> None:
    inner = {"tool": "diagnostics.nest", "arguments": {"tool": "diagnostics.echo"}}
    ran = execution.Execute(execute_request("diagnostics.nest", inner), timeout=SECONDS).execution
    request = tool_execution_pb2.ListExecutionsRequest(filter=f'task_id = "{ran.execution_id}"')
    assert len(execution.ListExecutions(request, timeout=SECONDS).executions) == 3


def test_calls_are_not_nested_without_end(execution: Execution) -> None:
    arguments: dict[str, Any] = {"tool": "diagnostics.echo"}
    for _ in range(8):
        arguments = {"tool": "diagnostics.nest", "arguments": arguments}
    ran = execution.Execute(execute_request("diagnostics.nest", arguments), timeout=SECONDS).execution
    assert (ran.state, ran.error.reason) == (common_pb2.STATE_FAILED, "TOOL_FAILED")


def test_a_nested_call_that_fails_says_why_under_its_own_reason(execution: Execution) -> None:
    for outer in ("nest", "nest_sync"):
        request = execute_request(f"diagnostics.{outer}", {"tool": "diagnostics.none"})
        ran = execution.Execute(request, timeout=SECONDS).execution
        assert (ran.error.reason, ran.error.metadata["tool_reason"]) == ("TOOL_FAILED", "TOOL_NOT_FOUND")


def test_a_nested_sync_call_with_every_worker_busy_is_refused_at_once(execution: Execution) -> None:
    request = execute_request("diagnostics.nest_sync", {"tool": "corridor.who"}, timeout=SECONDS - 1)
    began = time.monotonic()
    ran = execution.Execute(request, timeout=SECONDS).execution
    assert (ran.state, ran.error.reason) == (common_pb2.STATE_FAILED, "TOOL_FAILED")
    assert ran.error.metadata["tool_reason"] == "CONCURRENCY_LIMITED"
    assert time.monotonic() - began < SECONDS / 3
    # The worker that it held is free again.
    assert execution.Execute(execute_request("corridor.who"), timeout=SECONDS).execution.result.value_json


def test_nested_sync_calls_with_every_worker_busy_are_answered_by_extra_workers(tmp_path: Path) -> None:
    with live_server(tmp_path, "--tools", TOOLS, env=settings(2, 2, 8)) as server, stubs(server) as (execution, _):
        request = execute_request("diagnostics.nest_sync", {"tool": "corridor.who"})
        calls = [execution.Execute.future(request, timeout=SECONDS) for _ in range(2)]
        for call in calls:
            assert call.result(SECONDS).execution.state == common_pb2.STATE_SUCCEEDED
        deep = {"tool": "diagnostics.nest_sync", "arguments": {"tool": "corridor.who"}}
        many = [
            execution.Execute.future(execute_request("diagnostics.nest_sync", deep), timeout=SECONDS) for _ in range(6)
        ]
        for call in many:
            ran = call.result(SECONDS).execution
            assert ran.state in (common_pb2.STATE_SUCCEEDED, common_pb2.STATE_FAILED)
            assert ran.state == common_pb2.STATE_SUCCEEDED or ran.error.metadata["tool_reason"], ran


def test_a_call_that_finds_the_queue_full_is_told_when_to_come_back(execution: Execution) -> None:
    busy = occupied(execution, "busy-1")
    waits = execution.Execute.future(execute_request("corridor.who", request_id="waits-1"), timeout=SECONDS)
    eventually(lambda: _state(execution, "waits-1") == common_pb2.STATE_QUEUED)
    answer = refused(lambda: execution.Execute(execute_request("corridor.who"), timeout=SECONDS))
    assert (answer.code, answer.reason) == ("RESOURCE_EXHAUSTED", "CONCURRENCY_LIMITED")
    assert answer.metadata["outcome"] == "not_started"
    assert answer.retry_seconds is not None
    assert int(answer.trailers["grpc-retry-pushback-ms"]) > 0
    row = look_up(execution, execution_id=answer.metadata["execution_id"])
    assert row is not None
    assert row.state == common_pb2.STATE_REJECTED
    assert not row.HasField("start_time")
    # What waited is answered as soon as the worker is free.
    busy.cancel()
    assert waits.result(SECONDS).execution.state == common_pb2.STATE_SUCCEEDED


def test_a_call_that_got_no_worker_in_time_was_not_started(execution: Execution) -> None:
    busy = occupied(execution, "busy-2")
    request = execute_request("corridor.who", timeout=0.3)
    answer = refused(lambda: execution.Execute(request, timeout=SECONDS))
    assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "TOOL_TIMEOUT")
    assert (answer.metadata["outcome"], answer.metadata["attempts"]) == ("not_started", "0")
    row = look_up(execution, execution_id=answer.metadata["execution_id"])
    assert row is not None
    assert not row.HasField("start_time")
    assert row.usage.queue_duration.ToMilliseconds() >= 250
    busy.cancel()
    _released(execution, "busy-2")


def test_a_nested_call_ends_with_the_call_in_which_it_is_a_step(execution: Execution) -> None:
    inner = {"tool": "diagnostics.sleep", "arguments": {"seconds": 25}}
    request = execute_request("diagnostics.nest_sync", inner, timeout=1.0)
    answer = refused(lambda: execution.Execute(request, timeout=SECONDS))
    assert (answer.reason, answer.metadata["outcome"]) == ("TOOL_TIMEOUT", "unknown")
    parent = answer.metadata["execution_id"]
    eventually(
        lambda: (
            [child.state for child in children(execution, parent)]
            in ([common_pb2.STATE_CANCELLED], [common_pb2.STATE_TIMED_OUT])
        )
    )
