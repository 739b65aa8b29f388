"""The exporter as a process of its own, against collectors that really listen, and against some that do not."""

import asyncio
import logging
import os
import queue
import signal
import socket
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
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from toolwright_server.telemetry import Telemetry, TelemetryOptions
from toolwright_server.telemetry.span_file import read_traces_of

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


@pytest.mark.asyncio
async def test_without_a_collector_spans_go_to_the_file(make: Make, tmp_path: Path) -> None:
    telemetry = make()
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    spans = read_traces_of("0190-abc", tmp_path)
    assert [span["name"] for span in spans] == [METHOD, "execute_tool crm.contact.get"]
    assert spans[1]["parent_span_id"] == spans[0]["span_id"]
    assert spans[0]["server_id"] == "server-1"
    await telemetry.close()


@pytest.mark.asyncio
async def test_spans_reach_the_file_without_anybody_asking(make: Make, tmp_path: Path) -> None:
    telemetry = make(span_flush_interval_seconds=0.05)
    traced_call(telemetry)
    pipe = telemetry._pipe  # pyright: ignore[reportPrivateUsage]
    assert pipe is not None
    async with asyncio.timeout(SECONDS):
        while "otel_sdk_exporter_span_exported_total 2" not in telemetry.metrics.render():
            await asyncio.wait_for(pipe.next_report(), SECONDS)
    assert len(read_traces_of("0190-abc", tmp_path)) == 2
    await telemetry.close()


def check_spans(collector: Collector) -> None:
    (inner, resource), (outer, _) = collector.spans(2)
    assert resource["service.name"] == "toolwright"
    assert resource["service.instance.id"] == "server-1"
    assert outer.name == METHOD
    assert outer.kind == Span.SPAN_KIND_SERVER
    assert outer.trace_id.hex() == inner.trace_id.hex() == TRACE_ID
    assert outer.parent_span_id.hex() == "00f067aa0ba902b7"
    assert inner.parent_span_id == outer.span_id
    assert outer.trace_state == "vendor=1"
    assert outer.status.code == inner.status.code == Status.STATUS_CODE_ERROR
    assert inner.status.message == "TOOL_CRASHED happened"
    assert values(outer.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "INTERNAL",
        "error.type": "INTERNAL",
    }
    assert values(inner.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "crm.contact.get",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "0190-abc",
        "toolwright.attempts": 2,
        "error.type": "TOOL_CRASHED",
    }
    assert 0 < outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano


def check_metrics(collector: Collector) -> None:
    metric = collector.metric("rpc.server.call.duration")
    assert metric.unit == "s"
    assert metric.histogram.aggregation_temporality == 2, "cumulative"
    (point,) = metric.histogram.data_points
    assert point.count == 2
    assert point.sum == pytest.approx(0.303)
    assert sum(point.bucket_counts) == 2
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert not point.HasField("min")
    assert 0 < point.start_time_unix_nano < point.time_unix_nano
    assert values(point.attributes)["rpc.method"] == METHOD


@pytest.mark.asyncio
@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_spans_and_metrics_reach_a_collector(
    protocol: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector: Collector = request.getfixturevalue(f"{protocol}_collector")
    make: Make = request.getfixturevalue("make")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=mine")
    telemetry = make()
    traced_call(telemetry, error="TOOL_CRASHED")
    telemetry.metrics.rpc_call(METHOD, "OK", 0.3)
    telemetry.metrics.rpc_call(METHOD, "OK", 0.003)
    telemetry.metrics.call_started()
    telemetry.metrics.worker_killed("deadline")
    assert await telemetry.flush_and_wait(SECONDS)
    await telemetry.close()
    check_spans(collector)
    assert collector.headers[0]["api-key"] == "mine"
    check_metrics(collector)
    assert not (telemetry.options.data_dir / "spans.jsonl").exists()


@pytest.mark.asyncio
async def test_metrics_arrive_at_the_interval_that_is_set(
    grpc_collector: Collector, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    telemetry = make()
    telemetry.metrics.worker_killed("deadline")
    first = await asyncio.to_thread(grpc_collector.metric, "toolwright.worker.kills")
    second = await asyncio.to_thread(grpc_collector.metric, "toolwright.worker.kills")
    points = [metric.sum.data_points[0] for metric in (first, second)]
    assert [point.as_double or point.as_int for point in points] == [1, 0]
    assert first.sum.is_monotonic
    assert first.sum.aggregation_temporality == 1, "delta"
    assert points[1].start_time_unix_nano == points[0].time_unix_nano
    await telemetry.close()


@pytest.mark.asyncio
async def test_odd_attributes_of_a_tool_lose_neither_its_span_nor_others(grpc_collector: Collector, make: Make) -> None:
    telemetry = make()
    call = telemetry.tracing.server_call(METHOD, None, None)
    assert call.span is not None
    odd: dict[str, Any] = {
        "big": 2**70, "bytes": b"\xff", "surrogate": "\ud800", "none": None, "nan": float("nan"), "list": [1, 2],
        "mixed": [1, "a", None], "nested": {"a": {"b": 1}}, "object": object(),
    }  # fmt: skip
    call.span.set_attributes(odd)
    call.span.record_exception(ValueError("wrong"))
    telemetry.tracing.end_server_call(call, "OK", None)
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    spans = [span for span, _ in grpc_collector.spans(3)]
    assert values(spans[0].attributes)["big"] == str(2**70)
    assert spans[0].events[0].name == "exception"
    await telemetry.close()


@pytest.mark.asyncio
async def test_many_spans_arrive_complete(grpc_collector: Collector, make: Make) -> None:
    telemetry = make()
    for number in range(3000):
        traced_call(telemetry, f"exec-{number}")
        if number % 500 == 0:
            await asyncio.sleep(0)
    assert await telemetry.flush_and_wait(SECONDS)
    spans = grpc_collector.spans(6000)
    ids = {values(span.attributes).get("gen_ai.tool.call.id") for span, _ in spans}
    assert len(ids - {None}) == 3000
    await telemetry.close()


@pytest.mark.asyncio
async def test_close_sends_what_is_left(make: Make, tmp_path: Path) -> None:
    telemetry = make(span_flush_interval_seconds=3600)
    traced_call(telemetry)
    pid = exporter_pid(telemetry)
    assert pid is not None
    await telemetry.close()
    assert len(read_traces_of("0190-abc", tmp_path)) == 2
    assert not psutil.pid_exists(pid)


@pytest.mark.asyncio
async def test_a_collector_that_does_not_answer_delays_the_end_by_no_more_than_is_set(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        telemetry = make(exporter_close_seconds=0.5)
        traced_call(telemetry)
        pid = exporter_pid(telemetry)
        assert pid is not None
        await asyncio.wait_for(telemetry.close(), SECONDS)
        assert "not exported completely" in caplog.text
        assert not psutil.pid_exists(pid)


@pytest.mark.asyncio
async def test_a_collector_that_is_not_there_is_counted_and_does_not_stop_the_server(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    telemetry = make()
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    text = telemetry.metrics.render()
    assert 'otel_sdk_exporter_span_exported_total{error_type="export_failed"} 2' in text
    await telemetry.close()


@pytest.mark.asyncio
async def test_when_the_exporter_is_killed_the_server_goes_on_and_says_so(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = make()
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    pid = exporter_pid(telemetry)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    pipe = telemetry._pipe  # pyright: ignore[reportPrivateUsage]
    assert pipe is not None
    async with asyncio.timeout(SECONDS):
        while pipe.alive:
            await pipe.next_report()
    traced_call(telemetry)
    telemetry.flush()
    assert "the telemetry exporter process has ended" in caplog.text
    assert 'otel_sdk_processor_span_processed_total{error_type="exporter_gone"} 2' in telemetry.metrics.render()
    await asyncio.wait_for(telemetry.close(), SECONDS)


@pytest.mark.asyncio
async def test_an_exporter_that_stands_still_costs_spans_and_not_memory(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = make(exporter_backlog_max_bytes=200_000, exporter_close_seconds=10)
    pid = exporter_pid(telemetry)
    assert pid is not None
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(5000):
        traced_call(telemetry)
        telemetry.flush()
    assert 'error_type="queue_full"' in telemetry.metrics.render()
    assert len([record for record in caplog.records if "spans were dropped" in record.getMessage()]) == 1
    os.kill(pid, signal.SIGCONT)
    assert await telemetry.flush_and_wait(SECONDS)
    await telemetry.close()


@pytest.mark.asyncio
async def test_the_terminals_signals_do_not_reach_the_exporter(make: Make, tmp_path: Path) -> None:
    telemetry = make()
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    pid = exporter_pid(telemetry)
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    traced_call(telemetry, "0190-def")
    assert await telemetry.flush_and_wait(SECONDS)
    assert len(read_traces_of("0190-def", tmp_path)) == 4, "both calls are in one trace"
    await telemetry.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("setting", ["OTEL_TRACES_EXPORTER=none", "OTEL_SDK_DISABLED=true"])
async def test_where_nothing_is_exported_there_is_no_exporter_process(
    setting: str, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(*setting.split("="))
    telemetry = make()
    traced_call(telemetry)
    assert exporter_pid(telemetry) is None
    assert await telemetry.flush_and_wait(SECONDS)
    await telemetry.close()
    assert not any(await asyncio.to_thread(lambda: list(tmp_path.iterdir())))
