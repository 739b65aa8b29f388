"""How a server ends: in order when it is told, at once when it is killed, and then without leaving anything behind."""

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from tests.live import LiveServer, alive, eventually, execute_request, live_server, stubs
from tests.refused import refused, unpacked
from tests.torture.draining import assert_nothing_was_lost, drain
from toolwright.v1 import common_pb2, tool_execution_pb2

pytestmark = pytest.mark.slow

SECONDS = 30.0
TOOLS = str(Path(__file__).with_name("corridor_tools.py"))


def settings(notice: float, grace: float = 30) -> dict[str, str]:
    return {
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_DRAIN_NOTICE_SECONDS": str(notice),
        "TOOLWRIGHT_DRAIN_GRACE_SECONDS": str(grace),
        "TOOLWRIGHT_PROCESS_WORKERS": "3",
    }


def running(server: LiveServer, count: int) -> None:
    eventually(lambda: server.metric("toolwright_executions_running") >= count)


def ended(stream: Iterable[object]) -> str:
    """OK, or the reason of the status with which a stream ends."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        return unpacked(error).reason
    return "OK"


def commands(processes: list[psutil.Process]) -> list[list[str]]:
    found: list[list[str]] = []
    for process in processes:
        try:
            found.append(process.cmdline())
        except psutil.NoSuchProcess:
            continue
    return found


def test_sigterm_flips_health_first_and_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    with live_server(tmp_path, env=settings(1)) as server:
        assert_nothing_was_lost(asyncio.run(drain(server, calls=12, streams=6, seconds=3)))
        assert not any(line["level"] == "error" for line in server.lines())


def test_a_synchronous_call_in_its_worker_is_answered_during_a_drain(tmp_path: Path) -> None:
    with live_server(tmp_path, env=settings(0)) as server, stubs(server) as (execution, _):
        call = execution.Execute.future(execute_request("diagnostics.block", {"seconds": 1.5}), timeout=SECONDS)
        running(server, 1)
        server.process.send_signal(signal.SIGTERM)
        assert call.result(SECONDS).execution.state == common_pb2.STATE_SUCCEEDED
        assert server.terminate() == 0


def test_a_stream_that_only_watches_is_told_to_attach_elsewhere(tmp_path: Path) -> None:
    with live_server(tmp_path, env=settings(0)) as server, stubs(server) as (execution, _):
        call = execution.Execute.future(
            execute_request("diagnostics.sleep", {"seconds": 1.5}, request_id="seen"), timeout=SECONDS
        )
        running(server, 1)
        found = execution.GetExecution(tool_execution_pb2.GetExecutionRequest(request_id="seen"), timeout=SECONDS)
        request = tool_execution_pb2.WaitExecutionRequest(execution_id=found.execution.execution_id)
        watching = execution.WaitExecution(request, timeout=SECONDS)
        next(iter(watching))
        server.process.send_signal(signal.SIGTERM)
        assert call.result(SECONDS).execution.state == common_pb2.STATE_SUCCEEDED
        # It sees what happens until the work is done: then either the end itself, or why it does not.
        answer = ended(watching)
        assert answer in ("OK", "SERVER_DRAINING")
        assert server.terminate() == 0


@pytest.mark.parametrize("hurried", [True, False], ids=["a second SIGTERM", "the end of the grace"])
def test_what_still_runs_is_cancelled_and_recorded_by(tmp_path: Path, hurried: bool) -> None:
    env = settings(0, 30 if hurried else 1)
    with live_server(tmp_path, "--tools", TOOLS, env=env) as server, stubs(server) as (execution, _):
        wanted = {"diagnostics.sleep": "none", "diagnostics.burn": "none", "corridor.act": "unknown"}
        calls: dict[str, Any] = {
            tool: execution.Execute.future(execute_request(tool, {"seconds": 60}), timeout=SECONDS) for tool in wanted
        }
        running(server, 3)
        server.process.send_signal(signal.SIGTERM)
        if hurried:
            eventually(lambda: any(line["message"].startswith("draining") for line in server.lines()))
            server.process.send_signal(signal.SIGTERM)
        for tool, outcome in wanted.items():
            answer = refused(lambda tool=tool: calls[tool].result(SECONDS))
            assert (answer.code, answer.reason) == ("CANCELLED", "CANCELLED"), answer.everything
            # Burn may still have waited for its worker.
            assert answer.metadata["outcome"] in (outcome, "not_started")
            assert "shutting down" in answer.message
        assert server.terminate() == 0
        warned = [str(line["message"]) for line in server.lines() if line["level"] == "warning"]
        assert any("draining" in message and "3" in message for message in warned)
        assert sum(line["message"] == "call" and line["reason"] == "CANCELLED" for line in server.lines()) == 3


def test_an_idle_server_ends_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    with live_server(tmp_path, env=settings(0)) as server:
        below = server.descendants()
        assert server.terminate(10) == 0
        eventually(lambda: not any(alive(process.pid) for process in below), seconds=2)


def test_within_a_second_after_sigkill_nothing_that_a_tool_started_is_alive(tmp_path: Path) -> None:
    with live_server(tmp_path, env=settings(2)) as server, stubs(server) as (execution, _):
        calls = [
            execution.Execute.future(execute_request(f"diagnostics.{tool}", {"seconds": 30}), timeout=SECONDS)
            for tool in ("spawn", "burn", "block", "sleep")
        ]
        eventually(lambda: sum(command[:1] == ["sleep"] for command in commands(server.descendants())) >= 2)
        running(server, 4)
        below = server.descendants()
        assert len(below) >= 6
        server.process.kill()
        eventually(lambda: not any(alive(process.pid) for process in below), seconds=1)
        server.process.wait(10)
        for call in calls:
            assert refused(lambda call=call: call.result(SECONDS)).code == "UNAVAILABLE"
