"""Several server processes behind one port: real processes, signals, gRPC and PostgreSQL."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.databases import Postgres
from tests.live import LiveServer, alive, eventually, execute_request, live_server, starting_server
from tests.refused import refused
from tests.several import (
    CHANNEL,
    LEASE_SECONDS,
    SECONDS,
    Stores,
    all_healthy,
    connected_to_each,
    echoed,
    server_processes,
    settings,
    several,
)
from tests.torture.draining import assert_nothing_was_lost, drain
from tests.valkeys import Server
from toolwright.v1 import common_pb2, tool_execution_pb2

# Many starts in one test, on a machine that has other things to do.
pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]
NAMES = {"several-1", "several-2"}
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def stores(postgres: Postgres, valkey: Server) -> Stores:
    return Stores.of(postgres, valkey)


@pytest.fixture
def server(tmp_path: Path, stores: Stores) -> Iterator[LiveServer]:
    with several(tmp_path, stores) as running:
        yield running


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, valkey: Server) -> Iterator[LiveServer]:
    """One for all tests after which both processes are well again."""
    with several(tmp_path_factory.mktemp("lasting"), Stores.of(postgres, valkey)) as running:
        yield running


def messages(server: LiveServer, *levels: str) -> list[str]:
    return [str(line["message"]) for line in server.lines() if not levels or line["level"] in levels]


def sleeping(stub: Any, seconds: float, request_id: str = "") -> Any:
    request = execute_request("diagnostics.sleep", {"seconds": seconds}, request_id=request_id)
    return stub.Execute.future(request, timeout=SECONDS)


def running(server: LiveServer, count: int) -> None:
    eventually(lambda: server.metric("toolwright_executions_running") == count)


def health(server: LiveServer) -> int:
    """What a health check on a new connection is told."""
    with grpc.insecure_channel(server.address, options=CHANNEL) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status


def mapped(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/maps").read_text()


def test_connections_are_shared_out_and_the_page_speaks_for_all_processes(lasting: LiveServer) -> None:
    with connected_to_each(lasting) as stubs:
        assert set(stubs) == NAMES
        before = lasting.metric("rpc_server_call_duration_seconds_count")
        for stub in stubs.values():
            for _ in range(5):
                stub.Execute(execute_request("diagnostics.echo", {"a": 1}), timeout=SECONDS)
        assert lasting.metric("rpc_server_call_duration_seconds_count") == before + 10
    assert lasting.http("/healthz") == (200, "2 of 2 processes are healthy\n")
    page = lasting.http("/metrics")[1]
    assert "toolwright_server_processes 2" in page
    assert all(f'toolwright_loop_lag_last_seconds{{service_instance_id="{name}"}}' in page for name in NAMES)
    assert page.count("# TYPE rpc_server_call_duration_seconds histogram") == 1
    processes = server_processes(lasting)
    assert set(processes) == NAMES
    # The supervisor could not be trusted to replace what crashes in gRPC if it had that itself.
    assert "cygrpc" not in mapped(psutil.Process(lasting.pid))
    assert all("cygrpc" in mapped(process) for process in processes.values())


def test_a_call_in_one_process_is_shown_joined_and_cancelled_by_another(lasting: LiveServer) -> None:
    with connected_to_each(lasting) as stubs:
        call = sleeping(stubs["several-1"], 60, "one call")
        running(lasting, 1)
        asked = tool_execution_pb2.GetExecutionRequest(request_id="one call")
        found = stubs["several-2"].GetExecution(asked, timeout=SECONDS).execution
        assert (found.server_id, found.HasField("end_time")) == ("several-1", False)
        joined = sleeping(stubs["several-2"], 60, "one call")
        stop = tool_execution_pb2.CancelExecutionRequest(execution_id=found.execution_id)
        stubs["several-2"].CancelExecution(stop, timeout=SECONDS)
        assert refused(lambda: call.result(SECONDS)).reason == "CANCELLED"
        assert refused(lambda: joined.result(SECONDS)).reason == "CANCELLED"
        assert lasting.metric("toolwright_executions_running") == 0


def test_a_killed_process_is_replaced_the_others_answer_meanwhile_and_what_it_left_is_settled(
    lasting: LiveServer,
) -> None:
    with connected_to_each(lasting) as stubs:
        calls = {name: sleeping(stub, 60, f"of {name}") for name, stub in stubs.items()}
        running(lasting, 2)
        counted = lasting.metric("rpc_server_call_duration_seconds_count")
        victim = server_processes(lasting)["several-2"]
        below = victim.children(recursive=True)
        victim.kill()
        assert refused(lambda: calls["several-2"].result(SECONDS)).code == "UNAVAILABLE"
        answers = [stubs["several-1"].Execute(execute_request("diagnostics.echo"), timeout=SECONDS) for _ in range(20)]
        assert {answer.execution.server_id for answer in answers} == {"several-1"}
        assert health(lasting) == SERVING
        all_healthy(lasting)
        assert server_processes(lasting)["several-2"].pid != victim.pid
        eventually(lambda: not any(alive(process.pid) for process in below), 5)

        asked = tool_execution_pb2.GetExecutionRequest(request_id="of several-2")
        eventually(
            lambda: stubs["several-1"].GetExecution(asked, timeout=SECONDS).execution.state == common_pb2.STATE_FAILED,
            5 * LEASE_SECONDS,
        )
        row = stubs["several-1"].GetExecution(asked, timeout=SECONDS).execution
        assert row.error.metadata["server_id"] == "several-2"
        assert not calls["several-1"].done()
        # What the dead one counted is not forgotten: a sum that falls would be read as a restart.
        assert lasting.metric("rpc_server_call_duration_seconds_count") >= counted + 20
        assert lasting.metric("toolwright_server_processes_replaced_total") == 1
        calls["several-1"].cancel()
    assert [message for message in messages(lasting, "warning") if message.startswith("server process")] == [
        f"server process several-2 (pid {victim.pid}) was killed by SIGKILL; the next one is started now"
    ]


def test_a_process_that_stood_still_is_ill_ends_when_it_wakes_without_a_word_to_load_balancers_and_is_replaced(
    lasting: LiveServer,
) -> None:
    def taken_over() -> int:
        return sum("(epoch" in message for message in messages(lasting, "warning"))

    frozen = server_processes(lasting)["several-1"]
    # Another one may have been taken over before.
    before = taken_over()
    frozen.suspend()
    try:
        eventually(lambda: "several-1: does not answer" in lasting.http("/healthz")[1])
        assert lasting.http("/healthz")[0] == 200
        eventually(lambda: taken_over() > before, 10 * LEASE_SECONDS)
    finally:
        frozen.resume()
    end = time.monotonic() + SECONDS
    seen: set[int] = set()
    while not any("ended with exit code 75" in message for message in messages(lasting)):
        assert time.monotonic() < end
        try:
            seen.add(health(lasting))
        except grpc.RpcError:
            continue  # it was on its way to the one that ends
    assert seen == {SERVING}
    all_healthy(lasting)
    assert server_processes(lasting)["several-1"].pid != frozen.pid


def test_a_process_that_cannot_start_is_tried_ever_more_rarely_while_the_others_serve(
    tmp_path: Path, stores: Stores
) -> None:
    broken = tmp_path / "broken"
    tools = str(Path(__file__).with_name("several_tools.py"))
    marker: dict[str, Any] = {"SEVERAL_BROKEN": str(broken), "TOOLWRIGHT_PROCESS_ENVIRONMENT": "SEVERAL_BROKEN"}
    with several(tmp_path, stores, "--tools", tools, **marker) as server:
        broken.touch()
        server_processes(server)["several-2"].kill()
        steps = ("started now", "started in 0.5 s", "started in 1 s", "started in 2 s")
        eventually(lambda: all(any(step in message for message in messages(server)) for step in steps), SECONDS, 0.1)
        status, text = server.http("/healthz")
        assert (status, text.splitlines()[0]) == (200, "1 of 2 processes are healthy")
        assert "several-2: is" in text
        assert echoed(server) == "several-1"
        for step in steps:
            assert sum(step in message for message in messages(server, "warning")) == 1
        broken.unlink()
        all_healthy(server)
        assert server.terminate() == 0


def test_a_drain_under_load_loses_nothing_and_ends_with_0(tmp_path: Path, stores: Stores) -> None:
    with several(tmp_path, stores, TOOLWRIGHT_DRAIN_NOTICE_SECONDS="1") as server:
        below = server.descendants()
        started = len(messages(server, "error", "critical"))
        assert_nothing_was_lost(asyncio.run(drain(server, calls=12, streams=6, seconds=3, connections=8)))
        assert messages(server, "error", "critical")[started:] == []
        assert sum(message.startswith("drained; calls cancelled: 0") for message in messages(server)) == 2
        eventually(lambda: not any(alive(process.pid) for process in below), 5)


def test_a_signal_to_all_processes_at_once_is_one_order_and_the_spans_of_all_are_in_the_one_file(
    server: LiveServer,
) -> None:
    with connected_to_each(server) as stubs:
        calls = [sleeping(stub, 1.5) for stub in stubs.values()]
        running(server, 2)
        # As a service manager ends a unit, or a terminal its foreground.
        for process in (*server_processes(server).values(), psutil.Process(server.pid)):
            process.send_signal(signal.SIGTERM)
        assert [call.result(SECONDS).execution.state for call in calls] == [common_pb2.STATE_SUCCEEDED] * 2
        assert server.process.wait(SECONDS) == 0
    spans = [json.loads(line) for line in (server.data_dir / "spans.jsonl").read_text().splitlines()]
    assert {span["server_id"] for span in spans} == NAMES


def test_all_say_that_they_drain_on_every_connection_and_a_second_signal_hurries_them(
    tmp_path: Path, stores: Stores
) -> None:
    with several(tmp_path, stores, TOOLWRIGHT_DRAIN_NOTICE_SECONDS="10") as server, connected_to_each(server) as stubs:
        assert {health(server) for _ in range(16)} == {SERVING}
        calls = [sleeping(stub, 60) for stub in stubs.values()]
        running(server, 2)
        server.process.send_signal(signal.SIGINT)
        eventually(lambda: sum(message.startswith("draining: calls") for message in messages(server)) == 2)
        assert {health(server) for _ in range(16)} == {health_pb2.HealthCheckResponse.NOT_SERVING}
        server.process.send_signal(signal.SIGINT)
        for call in calls:
            answer = refused(lambda call=call: call.result(SECONDS))
            assert (answer.code, answer.metadata["outcome"]) == ("CANCELLED", "none"), answer.everything
        assert server.process.wait(SECONDS) == 0


def test_within_a_second_after_the_supervisor_was_killed_nobody_is_alive(server: LiveServer) -> None:
    with connected_to_each(server) as stubs:
        calls = [
            stub.Execute.future(execute_request("diagnostics.spawn", {"seconds": 30}), timeout=SECONDS)
            for stub in stubs.values()
        ]
        eventually(lambda: sum(process.name() == "sleep" for process in server.descendants()) >= 2)
        below = [process for process in server.descendants() if not _exports(process)]
        assert len(below) >= 8
        server.process.kill()
        eventually(lambda: not any(alive(process.pid) for process in below), 1)
        server.process.wait(SECONDS)
        assert {refused(lambda call=call: call.result(SECONDS)).code for call in calls} == {"UNAVAILABLE"}


def _exports(process: psutil.Process) -> bool:
    """The exporter has a grace of its own, to send what it was given."""
    try:
        return "toolwright_server.telemetry.exporter" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def test_a_port_of_0_is_one_port_for_all(tmp_path: Path, stores: Stores) -> None:
    env = settings(stores, TOOLWRIGHT_LISTEN="127.0.0.1:0")
    with starting_server(tmp_path, env=env) as server:
        eventually(lambda: any("share 127.0.0.1:" in message for message in messages(server)), SECONDS)
        shared = next(message for message in messages(server) if "share 127.0.0.1:" in message)
        server.address = shared.rpartition(" ")[2]
        all_healthy(server)
        with connected_to_each(server) as stubs:
            assert set(stubs) == NAMES


def test_one_process_is_one_process(tmp_path: Path) -> None:
    env = {"TOOLWRIGHT_WORKERS": "1", "TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_SERVER_ID": "alone"}
    with live_server(tmp_path, env=env) as server:
        assert echoed(server) == "alone"
        assert server_processes(server) == {}
        assert "cygrpc" in mapped(psutil.Process(server.pid))
