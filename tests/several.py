"""A real `toolwright serve` with several processes behind one port, for tests of how they start, die and end together.

The record is a real PostgreSQL. `REDIS_URL` is where the counters of limits are.
"""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import grpc
import psutil

from tests.live import LiveServer, eventually, execute_request, live_server
from toolwright.v1 import tool_execution_pb2_grpc

REDIS_URL = "redis://127.0.0.1:6379"
SECONDS = 30.0
LEASE_SECONDS = 2.0
MODULE = "toolwright_server.commands.server_process"
# A connection for each channel, also of one address: the kernel gives each connection to one of the processes.
CHANNEL = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


def settings(database_url: str, processes: int = 2, **more: str) -> dict[str, str]:
    """The environment of such a server."""
    return {
        "TOOLWRIGHT_WORKERS": str(processes),
        "TOOLWRIGHT_DATABASE_URL": database_url,
        "TOOLWRIGHT_REDIS_URL": REDIS_URL,
        "TOOLWRIGHT_SERVER_ID": "several",
        "TOOLWRIGHT_LEASE_SECONDS": str(LEASE_SECONDS),
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_PROCESS_WORKERS": "2",
        "TOOLWRIGHT_PROCESS_EXTRA_WORKERS": "0",
        **more,
    }


@contextlib.contextmanager
def several(folder: Path, database_url: str, *arguments: str, processes: int = 2, **more: str) -> Generator[LiveServer]:
    """One whose processes all serve."""
    with live_server(folder, *arguments, env=settings(database_url, processes, **more)) as server:
        all_healthy(server, processes)
        yield server


def all_healthy(server: LiveServer, processes: int = 2, seconds: float = SECONDS) -> None:
    """Wait until every process is well."""
    eventually(lambda: server.http("/healthz")[1].startswith(f"{processes} of {processes} "), seconds, 0.05)


def server_processes(server: LiveServer) -> dict[str, psutil.Process]:
    """The processes that serve, by their server_id."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.Process(server.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            if MODULE in command:
                found[command[command.index(MODULE) + 1]] = process
    return found


@contextlib.contextmanager
def connected(server: LiveServer) -> Generator[Any]:
    """A stub on a connection of its own."""
    with grpc.insecure_channel(server.address, options=CHANNEL) as channel:
        yield tool_execution_pb2_grpc.ToolExecutionStub(channel)


def echoed(server: LiveServer) -> str:
    """The process that answered an echo on a new connection."""
    with connected(server) as stub:
        return stub.Execute(execute_request("diagnostics.echo", {"a": 1}), timeout=SECONDS).execution.server_id


@contextlib.contextmanager
def connected_to_each(server: LiveServer, processes: int = 2) -> Generator[dict[str, Any]]:
    """A stub for each process, by its server_id: as many connections as that takes."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Any] = {}
        for _ in range(64 * processes):
            stub = stack.enter_context(connected(server))
            answer = stub.Execute(execute_request("diagnostics.echo", {"a": 1}), timeout=SECONDS)
            found.setdefault(answer.execution.server_id, stub)
            if len(found) == processes:
                break
        assert len(found) == processes, f"only {sorted(found)} answer"
        yield found
