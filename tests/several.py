"""A real `toolwright serve` with several processes behind one port, for tests of how they start, die and end together.

The record is a real PostgreSQL, the counters of limits are in a real Valkey.
"""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import psutil

from tests.databases import Postgres
from tests.live import TRACED, LiveServer, eventually, execute_request, live_server
from tests.valkeys import Server
from toolwright.v1 import tool_execution_pb2_grpc

SECONDS = 30.0
LEASE_SECONDS = 2.0
MODULE = "toolwright_server.commands.server_process"
# A connection for each channel, also of one address: the kernel gives each connection to one of the processes.
CHANNEL = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the processes of a server keep what they share."""

    database_url: str
    redis_url: str

    @classmethod
    def of(cls, postgres: Postgres, valkey: Server) -> Self:
        """An empty database and an empty store."""
        valkey.run("FLUSHALL")
        return cls(postgres.make_database(), valkey.url)


def settings(stores: Stores, processes: int = 2, **more: str) -> dict[str, str]:
    """The environment of such a server."""
    return {
        **TRACED,
        "TOOLWRIGHT_WORKERS": str(processes),
        "TOOLWRIGHT_DATABASE_URL": stores.database_url,
        "TOOLWRIGHT_REDIS_URL": stores.redis_url,
        "TOOLWRIGHT_SERVER_ID": "several",
        "TOOLWRIGHT_LEASE_SECONDS": str(LEASE_SECONDS),
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_PROCESS_WORKERS": "2",
        "TOOLWRIGHT_PROCESS_EXTRA_WORKERS": "0",
        **more,
    }


@contextlib.contextmanager
def several(folder: Path, stores: Stores, *arguments: str, processes: int = 2, **more: str) -> Generator[LiveServer]:
    """One whose processes all serve."""
    with live_server(folder, *arguments, env=settings(stores, processes, **more)) as server:
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
