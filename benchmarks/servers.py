"""Starts the contenders and waits until each has answered a real call. Ends them all, whatever happens."""

import sys
import time
import urllib.error
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc

from benchmarks import sink
from benchmarks.contenders import BareServer, Toolwright, call
from benchmarks.processes import Process, free_port

START_SECONDS = 30.0
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
def toolwright(folder: Path, name: str, telemetry: Mapping[str, str]) -> Generator[Toolwright]:
    """Ours as `toolwright serve` starts it, one process, with nothing but addresses, data and telemetry set."""
    address, http = (f"127.0.0.1:{free_port()}" for _ in range(2))
    settings = {
        "TOOLWRIGHT_LISTEN": address,
        "TOOLWRIGHT_HTTP_LISTEN": http,
        "TOOLWRIGHT_DATA_DIR": str(folder / f"{name}.data"),
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        **telemetry,
    }
    command = [str(Path(sys.executable).parent / "toolwright"), "serve"]
    process = Process(name, command, folder / f"{name}.log", settings)
    try:
        server = Toolwright(process, address, http, name)
        _await_ready(server)
        yield server
    finally:
        process.stop()


def _await_ready(server: Toolwright) -> None:
    """Waits until ours answers an echo and its metrics.

    Raises:
        RuntimeError: it ended, or was not ready in time; says what it wrote.
    """
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            server.check_echo(200)
            server.calls_ok(server.echo_path)
        except (grpc.RpcError, urllib.error.URLError) as error:
            last = error
        else:
            return
        if not server.process.running() or time.monotonic() > end:
            words = server.process.last_words()
            raise RuntimeError(f"{server.name} is not ready after {START_SECONDS:g} s or ended: {last}; {words}")
        time.sleep(0.1)
