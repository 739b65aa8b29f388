"""Frames turned back into the SDK's own objects, so that OpenTelemetry's official exporters can send them.

Runs in the exporter process only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from toolwright_server.telemetry.instruments import MetricSnapshot, Point
from toolwright_server.telemetry.spans import SpanRecord, kind_from, tracestate_from

_STATUS = {code.value: code for code in StatusCode}


def readable_span(record: SpanRecord, resource: Resource) -> ReadableSpan:
    """The span as the SDK's exporters take it."""
    (name, trace_id, span_id, parent_id, remote, flags, state, kind, start, end, status, message, attributes, events,
     links, scope) = record  # fmt: skip
    context = _context(trace_id, span_id, flags, state, remote=False)
    return ReadableSpan(
        name=name,
        context=context,
        parent=_context(trace_id, parent_id, flags, state, remote=remote) if parent_id else None,
        resource=resource,
        attributes=attributes,
        events=[Event(each[0], each[2], each[1]) for each in events or ()],
        links=[Link(_context(*each[:4], remote=False), each[4]) for each in links or ()],
        kind=kind_from(kind),
        status=Status(_STATUS[status], message),
        start_time=start,
        end_time=end,
        instrumentation_scope=InstrumentationScope(scope[0], scope[1] or None, scope[2] or None),
    )


def metrics_data(snapshots: Sequence[MetricSnapshot], resource: Resource, *, delta: bool = False) -> MetricsData:
    """The snapshots as the SDK's exporters take them; `delta` says that counters and histograms are differences."""
    metrics = [_metric(snapshot, delta=delta) for snapshot in snapshots]
    scope = ScopeMetrics(InstrumentationScope("toolwright"), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def resource_from(attributes: Mapping[str, Any]) -> Resource:
    """The resource that the server named in its first frame, exactly as it was."""
    return Resource(dict(attributes))


def _context(trace_id: str, span_id: str, flags: int, state: str | None, *, remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(flags), tracestate_from(state))


def _metric(snapshot: MetricSnapshot, *, delta: bool) -> Metric:
    growing = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
    points = snapshot["points"]
    data: Histogram | Sum | Gauge
    if snapshot["kind"] == "histogram":
        data = Histogram([_histogram_point(snapshot, point) for point in points], growing)
    elif snapshot["kind"] == "gauge":
        data = Gauge([_number_point(snapshot, point) for point in points])
    elif snapshot["kind"] == "counter":
        data = Sum([_number_point(snapshot, point) for point in points], growing, True)
    else:
        data = Sum([_number_point(snapshot, point) for point in points], AggregationTemporality.CUMULATIVE, False)
    return Metric(snapshot["name"], snapshot["description"], snapshot["unit"], data)


def _number_point(snapshot: MetricSnapshot, point: Point) -> NumberDataPoint:
    return NumberDataPoint(point["attributes"], snapshot["start_ns"], snapshot["time_ns"], point["value"])


def _histogram_point(snapshot: MetricSnapshot, point: Point) -> HistogramDataPoint:
    # Minimum and maximum are optional in OTLP and not kept here; the SDK's class does not say so, its encoder knows.
    not_kept = cast("float", None)
    return HistogramDataPoint(
        attributes=point["attributes"],
        start_time_unix_nano=snapshot["start_ns"],
        time_unix_nano=snapshot["time_ns"],
        count=sum(point["counts"]),
        sum=point["sum"],
        bucket_counts=point["counts"],
        explicit_bounds=snapshot["bounds"],
        min=not_kept,
        max=not_kept,
    )
