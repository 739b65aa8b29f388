"""Telemetry in a server-like process of its own: on uvloop, with its HTTP page, blocked, and killed."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import orjson
import psutil
import pytest

from toolwright_server.telemetry.span_file import read_traces_of

SECONDS = 30
# Reads one command a line: "call ID" makes a traced call, "block" holds the loop until "go" is read, "end" closes.
SERVER = """
import asyncio, os, sys
from pathlib import Path
import uvloop
from toolwright_server.telemetry import Telemetry, TelemetryOptions

async def call(telemetry, execution_id):
    trace = telemetry.tracing.server_call("toolwright.v1.ToolExecution/Execute", None, None)
    tool = telemetry.tracing.tool_call(trace, "diagnostics.echo", execution_id)
    telemetry.tracing.end_tool_call(tool, None, None, None)
    telemetry.tracing.end_server_call(trace, "OK", None)
    telemetry.call_log.call(method="toolwright.v1.ToolExecution/Execute", tool="diagnostics.echo", code="OK",
        reason="", seconds=0.001, execution_id=execution_id, trace_id=trace.trace_id, caller="default/anonymous")
    await telemetry.flush_and_wait(20)

async def block():
    assert sys.stdin.readline() == "go\\n"

async def main():
    telemetry = Telemetry(TelemetryOptions(data_dir=Path(sys.argv[1]), server_id="server-1", log_format="json",
        http_listen="127.0.0.1:0", loop_blocked_seconds=0.1, loop_tick_seconds=0.02))
    telemetry.start()
    telemetry.run(asyncio.get_running_loop())
    print(*telemetry.http.address, telemetry._pipe.pid, flush=True)
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        command, _, rest = line.strip().partition(" ")
        if command == "call":
            await call(telemetry, rest)
        elif command == "block":
            await asyncio.create_task(block(), name="tool:diagnostics.block:0190-blocked")
        else:
            break
        print("done", flush=True)
    await telemetry.close()

uvloop.run(main())
"""


class Server:
    """The process above, and what it said about itself."""

    def __init__(self, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        host, port, pid = self.read_line().split()
        self.address = (host, int(port))
        self.exporter = psutil.Process(int(pid))

    def tell(self, command: str) -> None:
        stdin = self._pipe(self.process.stdin)
        stdin.write(f"{command}\n")
        stdin.flush()

    def read_line(self) -> str:
        return self._pipe(self.process.stdout).readline()

    def ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self.address, timeout=SECONDS)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def end(self) -> list[dict[str, object]]:
        """Close it; its log lines."""
        errors = self.process.communicate("end\n", SECONDS)[1]
        assert self.process.returncode == 0, errors
        return [orjson.loads(line) for line in errors.splitlines()]

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    if server.process.poll() is None:
        server.process.kill()
    server.process.communicate(timeout=SECONDS)


def test_a_call_leaves_spans_a_log_line_and_nothing_running(server: Server, tmp_path: Path) -> None:
    server.tell("call 0190-abc")
    assert server.read_line() == "done\n"
    spans = read_traces_of("0190-abc", tmp_path)
    assert len(spans) == 2
    assert server.ask("/healthz") == (200, "ok\n")
    assert "otel_sdk_exporter_span_exported_total 2" in server.ask("/metrics")[1]
    (line,) = [line for line in server.end() if line["message"] == "call"]
    assert line["execution_id"] == "0190-abc"
    assert line["trace_id"] == spans[0]["trace_id"]
    assert not server.exporter.is_running()


def test_while_a_tool_blocks_the_loop_health_is_503_and_names_it(server: Server) -> None:
    server.tell("block")
    # The page answers while the loop stands still; the first answers may come before the limit has passed.
    status, reason = server.ask("/healthz")
    for _ in range(10_000):
        if status != 200:
            break
        status, reason = server.ask("/healthz")
    assert status == 503
    assert "by tool diagnostics.block (execution 0190-blocked)" in reason
    assert 'toolwright_loop_blocked_total{gen_ai_tool_name="diagnostics.block"} 1' in server.ask("/metrics")[1]
    server.tell("go")
    assert server.read_line() == "done\n"
    messages = [str(line["message"]) for line in server.end()]
    assert any("has been blocked for" in message for message in messages)
    assert any("runs again" in message for message in messages)


def test_the_exporter_ends_with_a_server_that_is_killed(server: Server, tmp_path: Path) -> None:
    server.tell("call 0190-abc")
    assert server.read_line() == "done\n"
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(SECONDS)
    psutil.wait_procs([server.exporter], timeout=SECONDS)
    assert not server.exporter.is_running()
    assert len(read_traces_of("0190-abc", tmp_path)) == 2
