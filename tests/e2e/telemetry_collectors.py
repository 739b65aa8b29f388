"""Collectors that really listen, over gRPC and HTTP, and a Telemetry to send to them."""

import asyncio
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from toolwright_server.telemetry import Telemetry, TelemetryOptions

SECONDS = 30
METHOD = "toolwright.v1.ToolExecution/Execute"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


class Collector:
    """What arrived, as OTLP messages; one of the two servers below fills it."""

    def __init__(self) -> None:
        self.traces: queue.Queue[trace_service_pb2.ExportTraceServiceRequest] = queue.Queue()
        self.metrics: queue.Queue[metrics_service_pb2.ExportMetricsServiceRequest] = queue.Queue()
        self.headers: list[dict[str, str]] = []
        self.endpoint = ""

    def spans(self, count: int) -> list[tuple[Span, dict[str, Any]]]:
        """The next `count` spans with their resource's attributes."""
        found: list[tuple[Span, dict[str, Any]]] = []
        while len(found) < count:
            for batch in self.traces.get(timeout=SECONDS).resource_spans:
                resource = values(batch.resource.attributes)
                found += [(span, resource) for scope in batch.scope_spans for span in scope.spans]
        assert len(found) == count
        return found

    def metric(self, name: str) -> Metric:
        """The next metric of this name."""
        while True:
            for batch in self.metrics.get(timeout=SECONDS).resource_metrics:
                for metric in (metric for scope in batch.scope_metrics for metric in scope.metrics):
                    if metric.name == name:
                        return metric


def values(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value")), None) for pair in pairs}


class GrpcTraces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def Export(  # noqa: N802 - the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.collector.headers.append(dict(context.invocation_metadata()))
        self.collector.traces.put(request)
        return trace_service_pb2.ExportTraceServiceResponse()


class GrpcMetrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def Export(  # noqa: N802 - the contract's name
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: Any
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        self.collector.metrics.put(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
def grpc_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(GrpcTraces(collector), server)  # pyright: ignore[reportUnknownMemberType] - generated, untyped
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(GrpcMetrics(collector), server)  # pyright: ignore[reportUnknownMemberType] - generated, untyped
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    yield collector
    server.stop(0).wait(SECONDS)


@pytest.fixture
def http_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.headers.append({key.lower(): value for key, value in self.headers.items()})
            if self.path == "/v1/traces":
                collector.traces.put(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
            else:
                assert self.path == "/v1/metrics"
                collector.metrics.put(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    yield collector
    server.shutdown()
    server.server_close()
    thread.join(SECONDS)


Make = Callable[..., Telemetry]


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the OpenTelemetry variables of whoever runs the tests; logging is put back afterwards."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds and starts a Telemetry in `tmp_path`; its exporter process is gone when the test is."""
    made: list[Telemetry] = []

    def _make(**options: Any) -> Telemetry:
        merged: dict[str, Any] = {"exporter_close_seconds": 10.0, "set_global_tracer_provider": False, **options}
        telemetry = Telemetry(TelemetryOptions(data_dir=tmp_path, server_id="server-1", **merged))
        made.append(telemetry)
        telemetry.start()
        telemetry.run(asyncio.get_running_loop())
        return telemetry

    yield _make
    for telemetry in made:
        pid = exporter_pid(telemetry)
        if pid is not None and psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def exporter_pid(telemetry: Telemetry) -> int | None:
    return telemetry._pipe.pid if telemetry._pipe is not None else None  # pyright: ignore[reportPrivateUsage]


def traced_call(telemetry: Telemetry, execution_id: str = "0190-abc", error: str | None = None) -> None:
    """One call as the server makes it: a server span with a tool span in it."""
    call = telemetry.tracing.server_call(METHOD, TRACEPARENT, "vendor=1")
    tool = telemetry.tracing.tool_call(call, "crm.contact.get", execution_id)
    telemetry.tracing.end_tool_call(tool, error, error and f"{error} happened", {"toolwright.attempts": 2})
    telemetry.tracing.end_server_call(call, "OK" if error is None else "INTERNAL", None)
