"""A real `toolwright serve` in a process of its own, for tests that need processes, signals and the wire."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import grpc
import psutil

from tests.ports import free_port
from toolwright.v1 import tool_catalog_pb2_grpc, tool_execution_pb2, tool_execution_pb2_grpc

# By default a channel waits for seconds after it was turned away a few times, while the server has long started.
IMPATIENT = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
START_SECONDS = 30
ALL_TOOLKITS = {"TOOLWRIGHT_TOOLKITS": ""}
# Spans go to a file of the data directory, by a process of their own.
TRACED = {"OTEL_TRACES_EXPORTER": ""}
UNLIMITED = Path(__file__).parent / "limits.toml"


class LiveServer:
    """Started by `live_server`. `log` holds its JSON log lines."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, http_port: int, data_dir: Path, log: Path) -> None:
        self.process = process
        self.address = f"127.0.0.1:{port}"
        self.http_address = f"127.0.0.1:{http_port}"
        self.data_dir = data_dir
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self) -> list[dict[str, Any]]:
        # What has no end yet is being written.
        whole = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def called(self, execution_id: str) -> list[dict[str, Any]]:
        """The call log's lines about one execution."""
        return [line for line in self.lines() if line["message"] == "call" and line["execution_id"] == execution_id]

    def http(self, path: str) -> tuple[int, str]:
        """Status and text of `/metrics` or `/healthz`."""
        try:
            with urllib.request.urlopen(f"http://{self.http_address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The sum of all series of one metric, by its name in `/metrics`; 0 without any."""
        lines = self.http("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def descendants(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with grpc.insecure_channel(self.address, options=IMPATIENT) as channel:
            ready = grpc.channel_ready_future(channel)
            while True:
                if self.process.poll() is not None:
                    raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()}")
                with contextlib.suppress(grpc.FutureTimeoutError):
                    ready.result(timeout=0.2)
                    return
                if time.monotonic() > deadline:
                    raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def terminate(self, seconds: float = 30) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextlib.contextmanager
def live_server(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Generator[LiveServer]:
    """A server with its data in `folder`, that answers; killed at the end if it still runs."""
    with starting_server(folder, *arguments, env=env) as server:
        server.wait_ready()
        yield server


@contextlib.contextmanager
def starting_server(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Generator[LiveServer]:
    """The same, not waited for."""
    listen = (env or {}).get("TOOLWRIGHT_LISTEN", "")
    port, http_port = int(listen.rpartition(":")[2] or free_port()), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    # Only what a person's shell would have as well: no OTEL_ or TOOLWRIGHT_ of the test run itself.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TOOLWRIGHT_"))}
    environment = clean | {
        "TOOLWRIGHT_LISTEN": f"127.0.0.1:{port}",
        "TOOLWRIGHT_LIMITS_FILE": str(UNLIMITED),
        "TOOLWRIGHT_HTTP_LISTEN": f"127.0.0.1:{http_port}",
        "TOOLWRIGHT_DATA_DIR": str(folder / "data"),
        # Not the one of whoever runs the tests.
        "TOOLWRIGHT_AUDIT_KEY_FILE": str(folder / "audit.key"),
        "TOOLWRIGHT_LOG_FORMAT": "json",
        # Who asks nothing of the drain need not wait for it.
        "TOOLWRIGHT_DRAIN_NOTICE_SECONDS": "0",
        # Survives the kill of any process; no test cuts the power, and waiting for the disk is most of their time.
        "TOOLWRIGHT_SQLITE_SYNCHRONOUS": "off",
        # A third of a second less for each server, twice; `ALL_TOOLKITS` and `TRACED` for who needs more.
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "OTEL_TRACES_EXPORTER": "none",
        **(env or {}),
    }
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "toolwright_server.main", "serve", *arguments], env=environment, stderr=sink
        )
    try:
        yield LiveServer(process, port, http_port, Path(environment["TOOLWRIGHT_DATA_DIR"]), log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextlib.contextmanager
def stubs(
    server: LiveServer,
) -> Generator[tuple[tool_execution_pb2_grpc.ToolExecutionStub, tool_catalog_pb2_grpc.ToolCatalogServiceStub]]:
    """Blocking stubs on a channel without retries."""
    with grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        yield tool_execution_pb2_grpc.ToolExecutionStub(channel), tool_catalog_pb2_grpc.ToolCatalogServiceStub(channel)


def execute_request(tool: str, arguments: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    request = tool_execution_pb2.ExecuteRequest()
    request.call.tool = tool
    request.call.arguments_json = json.dumps(arguments or {})
    for name, value in fields.items():
        if name == "timeout":
            request.call.timeout.FromMilliseconds(round(value * 1000))
        else:
            setattr(request.call, name, value)
    return request


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(check: Any, seconds: float = 10.0, interval: float = 0.02) -> None:
    """Wait until `check()` is true; the wait is bounded and ends at once when it is."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {seconds} s: {check}")
        time.sleep(interval)
