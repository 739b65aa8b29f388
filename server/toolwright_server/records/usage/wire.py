"""Between the protos and usage."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from toolwright.v1 import usage_pb2 as pb
from toolwright_server.errors import invalid
from toolwright_server.records.usage.latency import quantiles
from toolwright_server.records.usage.model import DAY_HOURS, HOUR_SECONDS, Dimension, Figures, Order
from toolwright_server.records.usage.usage import FIRST_HOUR, LAST_HOUR, Answer, Asked, Row

_DIMENSIONS: Final = {pb.UsageDimension.Value(f"USAGE_DIMENSION_{each.name}"): each for each in Dimension}
_ORDERS: Final = {order.value: order for order in Order}
_SHARES: Final = (0.5, 0.95, 0.99)


def asked(request: pb.QueryUsageRequest, limit: int, start: str) -> Asked:
    """The question: at most `limit` rows behind the `start` of a page token, which is empty for the first page. Raises
    INVALID_ARGUMENTS.
    """
    if unknown := [number for number in request.group_by if number not in _DIMENSIONS]:
        raise invalid("group_by", f"{unknown[0]} is no dimension")
    if request.order not in _ORDERS:
        raise invalid("order", f"{request.order} is no order")
    found = Asked(
        limit=limit,
        dimensions=tuple(_DIMENSIONS[number] for number in request.group_by),
        start=_seconds("start_time", request.start_time) if request.HasField("start_time") else None,
        end=_seconds("end_time", request.end_time) if request.HasField("end_time") else None,
        tenant=request.tenant_id,
        user=request.user_id,
        agent=request.agent_id,
        tool=request.tool,
        category=request.category,
        order=_ORDERS[request.order],
        unused=request.include_unused,
    )
    return _continued(found, start) if start else found


def sealed(request: pb.QueryUsageRequest) -> str:
    """All that must be the same on every page."""
    same = pb.QueryUsageRequest()
    same.CopyFrom(request)
    same.ClearField("page_size")
    same.ClearField("page_token")
    return same.SerializeToString(deterministic=True).hex()


def answer(found: Answer, rows: Sequence[Row], token: str) -> pb.QueryUsageResponse:
    """A page of it."""
    message = pb.QueryUsageResponse(rows=map(_row, rows), next_page_token=token, total=_figures(found.total))
    message.start_time.FromSeconds(found.since * HOUR_SECONDS)
    message.end_time.FromSeconds(found.until * HOUR_SECONDS)
    return message


def place(found: Answer, row: Row) -> str:
    """Where a row stands in which period, for a page token."""
    return orjson.dumps((found.since, found.until, *row.place)).decode()


def _continued(question: Asked, start: str) -> Asked:
    """The question of a later page: of the same period, however late it is asked."""
    try:
        since, until, *behind = orjson.loads(start)
    except (TypeError, ValueError):
        raise invalid("page_token", "is not one that this server gave out") from None
    if not all(isinstance(hour, int) and FIRST_HOUR <= hour <= LAST_HOUR for hour in (since, until)):
        raise invalid("page_token", "is not one that this server gave out")
    return replace(question, start=since * HOUR_SECONDS, end=until * HOUR_SECONDS, behind=tuple(behind))


def _row(row: Row) -> pb.UsageRow:
    message = pb.UsageRow(figures=_figures(row.figures))
    for dimension, value in zip(row.dimensions, row.group, strict=True):
        if isinstance(value, int):
            hours = value * DAY_HOURS if dimension is Dimension.DAY else value
            message.start_time.FromSeconds(hours * HOUR_SECONDS)
        elif dimension is Dimension.TOOL:
            message.tool = value
        elif dimension is Dimension.CATEGORY:
            message.category = value
        elif dimension is Dimension.TENANT:
            message.tenant_id = value
        elif dimension is Dimension.USER:
            message.user_id = value
        else:
            message.agent_id = value
    return message


def _figures(figures: Figures) -> pb.UsageFigures:
    message = pb.UsageFigures(
        call_count=figures.calls,
        succeeded_count=figures.of("succeeded"),
        failed_count=figures.of("failed"),
        timed_out_count=figures.of("timed_out"),
        cancelled_count=figures.of("cancelled"),
        rejected_count=figures.of("rejected"),
        outcome_unknown_count=figures.of("outcome_unknown"),
        success_rate=figures.success_rate,
        average_attempts=figures.average_attempts,
        cache_hit_count=figures.of("cached"),
        joined_count=figures.of("joined"),
        fallback_count=figures.of("fallbacks"),
        cost_micros=figures.of("cost_micros"),
    )
    times = quantiles(figures.latencies, _SHARES)
    if times is not None:
        for field, seconds in zip((message.latency_p50, message.latency_p95, message.latency_p99), times, strict=True):
            _set(field, seconds)
        _set(message.average_queue_time, figures.of("queue_micros") / figures.timed / 1e6)
        _set(message.average_tool_time, figures.of("tool_micros") / figures.timed / 1e6)
    return message


def _set(field: Duration, seconds: float) -> None:
    field.FromMicroseconds(round(seconds * 1e6))


def _seconds(name: str, time: Timestamp) -> float:
    try:
        return time.ToMicroseconds() / 1e6
    except ValueError:
        raise invalid(name, "is no time") from None
