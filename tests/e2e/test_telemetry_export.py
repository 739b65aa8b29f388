"""Spans and metrics through the exporter process, into the file and into collectors that really listen."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from toolwright_server.telemetry.span_file import read_traces_of

from .telemetry_collectors import (
    METHOD,
    SECONDS,
    TRACE_ID,
    Collector,
    Make,
    grpc_collector,
    http_collector,
    make,
    traced_call,
    undisturbed,
    values,
)

__all__ = ["grpc_collector", "http_collector", "make", "undisturbed"]  # fixtures


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
