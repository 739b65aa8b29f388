"""Starts the contenders and waits until each has answered a real call. Ends them all, whatever happens."""

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc

from benchmarks import sink
from benchmarks.contenders import CALL_SECONDS, BareServer, Toolwright, call
from benchmarks.processes import ROOT, Process, free_port
from toolwright.v1 import keys_pb2, keys_pb2_grpc

START_SECONDS = 30.0
ECHO_TOOLS = ROOT / "benchmarks" / "echo_tools.py"
UNLIMITED = ROOT / "benchmarks" / "unlimited.toml"
# In the command line of each process, where a server has several.
MEMBERS = "toolwright_server.commands.server_process"
LIMITED = {"TOOLWRIGHT_LIMITS_FILE": str(ROOT / "benchmarks" / "limits.toml")}
IN_MEMORY = {"TOOLWRIGHT_DATABASE_URL": "memory:"}
API_KEYS = {"TOOLWRIGHT_AUTH": "api-key"}
ONE_PERCENT = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}


def every_call_to(sink_address: str) -> dict[str, str]:
    """The settings under which every call is traced and exported to a sink."""
    return {
        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{sink_address}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_METRICS_EXPORTER": "none",
    }


@contextmanager
def bare_server(folder: Path, name: str = "bare") -> Generator[BareServer]:
    """The yardstick, running."""
    process = Process.module(name, "benchmarks.bare", folder / f"{name}.log")
    try:
        yield BareServer(process, f"127.0.0.1:{process.first_line(START_SECONDS)}", name)
    finally:
        process.stop()


class Sink:
    """A receiver of traces that counts spans."""

    def __init__(self, process: Process, address: str) -> None:
        self.process = process
        self.address = address

    def spans(self) -> int:
        """How many spans have come."""
        return int(call(self.address, f"/{sink.SERVICE}/Counts", b""))


@contextmanager
def span_sink(folder: Path) -> Generator[Sink]:
    """The sink, running."""
    process = Process.module("sink", "benchmarks.sink", folder / "sink.log")
    try:
        yield Sink(process, f"127.0.0.1:{process.first_line(START_SECONDS)}")
    finally:
        process.stop()


@contextmanager
def toolwright(folder: Path, name: str, chosen: Mapping[str, str]) -> Generator[Toolwright]:
    """Ours as `toolwright serve` starts it, with nothing set but addresses, data and what is chosen."""
    address, http = (f"127.0.0.1:{free_port()}" for _ in range(2))
    data = folder / f"{name}.data"
    settings = {
        "TOOLWRIGHT_LISTEN": address,
        "TOOLWRIGHT_HTTP_LISTEN": http,
        "TOOLWRIGHT_DATA_DIR": str(data),
        "TOOLWRIGHT_AUDIT_KEY_FILE": str(folder / f"{name}.audit.key"),
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_LIMITS_FILE": str(UNLIMITED),
        **chosen,
    }
    command = [str(Path(sys.executable).parent / "toolwright"), "serve", "--tools", str(ECHO_TOOLS)]
    process = Process(name, command, folder / f"{name}.log", settings, members=MEMBERS)
    try:
        server = Toolwright(process, address, http, name)
        _await_ready(server, data / "admin.key" if "TOOLWRIGHT_AUTH" in chosen else None)
        if (count := chosen.get("TOOLWRIGHT_WORKERS", "1")) != "1":
            _await_processes(server, count)
        yield server
    finally:
        process.stop()


def _await_ready(server: Toolwright, admin_key: Path | None) -> None:
    """Waits until ours answers an echo and its metrics, with a key that it was asked for when it wants keys.

    Raises:
        RuntimeError: it ended, or was not ready in time; says what it wrote.
    """
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if admin_key is not None and not server.headers:
                server.headers = agent_key(server.address, admin_key.read_text(encoding="ascii").strip())
            server.check_echo(200)
            server.calls_ok(server.echo_path)
        except (grpc.RpcError, urllib.error.URLError, FileNotFoundError) as error:
            last = error
        else:
            return
        if not server.process.running() or time.monotonic() > end:
            words = server.process.last_words()
            raise RuntimeError(f"{server.name} is not ready after {START_SECONDS:g} s or ended: {last}; {words}")
        time.sleep(0.1)


def _await_processes(server: Toolwright, count: str) -> None:
    """Waits until all of several processes are healthy.

    Raises:
        RuntimeError: they are not in time.
    """
    end = time.monotonic() + START_SECONDS
    text = ""
    while not text.startswith(f"{count} of {count} "):
        if time.monotonic() > end:
            raise RuntimeError(f"{server.name}: after {START_SECONDS:g} s {text!r}; {server.process.last_words()}")
        time.sleep(0.1)
        with urllib.request.urlopen(f"http://{server.http}/healthz", timeout=CALL_SECONDS) as answer:
            text = answer.read().decode()


def agent_key(address: str, admin_key: str) -> dict[str, str]:
    """The headers of an agent that may call two tools, with a key that an admin has made for it."""
    wanted = keys_pb2.CreateApiKeyRequest(user_id="agent", scopes=["diagnostics.*", "benchmarks.*"])
    with grpc.insecure_channel(address) as channel:
        made = keys_pb2_grpc.KeyServiceStub(channel).CreateApiKey(
            wanted, timeout=CALL_SECONDS, metadata=(("authorization", f"Bearer {admin_key}"),)
        )
    return {"authorization": f"Bearer {made.secret}"}
