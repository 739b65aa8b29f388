"""Usage as a server tells it: asked for page by page, and its figures as words, cells of CSV or JSON values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from toolwright.v1 import usage_pb2 as pb
from toolwright.v1 import usage_pb2_grpc
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.commands.history import when
from toolwright_server.credits import words

DIMENSIONS: Final = {
    name.removeprefix("USAGE_DIMENSION_").lower(): number for name, number in pb.UsageDimension.items() if number
}
ORDERS: Final = {
    "calls": pb.USAGE_ORDER_MOST_CALLS,
    "fewest": pb.USAGE_ORDER_FEWEST_CALLS,
    "failures": pb.USAGE_ORDER_MOST_FAILURES,
    "slowest": pb.USAGE_ORDER_SLOWEST,
    "cost": pb.USAGE_ORDER_MOST_COST,
}
# Heads of a table for people, and which columns of it are numbers.
HEADS: Final = ("calls", "succeeded", "failures", "p50", "p95", "p99", "attempts", "cached", "cost")
_PAGE: Final = 1_000
_SECONDS: Final = 60.0

Stub = usage_pb2_grpc.UsageServiceStub


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was typed. `since` and `until`: as `history.when` reads them."""

    by: Sequence[str] = ()
    since: str | None = None
    until: str | None = None
    tenant: str = ""
    user: str = ""
    agent: str = ""
    tool: str = ""
    category: str = ""
    order: str = ""
    unused: bool = False

    def request(self, now: datetime) -> pb.QueryUsageRequest:
        """Of the first page. Raises UsageError."""
        request = pb.QueryUsageRequest(
            group_by=[_one(name, DIMENSIONS, "--by") for name in self.by],  # pyright: ignore[reportArgumentType]
            tenant_id=text(self.tenant, "--tenant"),
            user_id=text(self.user, "--user"),
            agent_id=text(self.agent, "--agent"),
            tool=text(self.tool, "--tool"),
            category=text(self.category, "--category"),
            order=_one(self.order, ORDERS, "--order") if self.order else None,  # pyright: ignore[reportArgumentType]
            include_unused=self.unused,
        )
        if self.since is not None:
            request.start_time.FromJsonString(when(self.since, now, "--since"))
        if self.until is not None:
            request.end_time.FromJsonString(when(self.until, now, "--until"))
        return request


def split(typed: Sequence[str]) -> list[str]:
    """`tool,day` and repeated options, as one list; a user's tenant belongs to its name."""
    by = [name.strip().lower() for each in typed for name in each.split(",") if name.strip()]
    if "user" in by and "tenant" not in by:
        by.insert(by.index("user"), "tenant")
    return by


def rows(
    stub: Stub, request: pb.QueryUsageRequest, limit: int | None = None
) -> tuple[list[pb.UsageRow], pb.QueryUsageResponse]:
    """At most `limit` rows, and the last page, for its total and period. Raises grpc.RpcError."""
    found: list[pb.UsageRow] = []
    while True:
        request.page_size = _PAGE if limit is None else min(limit - len(found), _PAGE)
        page = stub.QueryUsage(request, timeout=_SECONDS)
        found += page.rows
        request.page_token = page.next_page_token
        if not page.next_page_token or (limit is not None and len(found) >= limit):
            return found, page


def names(row: pb.UsageRow, by: Sequence[str]) -> list[str]:
    """What a row is for, one text for each dimension."""
    return [_name(row, each) for each in by]


def words_of(figures: pb.UsageFigures) -> list[str]:
    """Figures for people, as HEADS says."""
    failures = figures.call_count - figures.succeeded_count - figures.cancelled_count
    return [
        f"{figures.call_count:,}",
        f"{figures.success_rate:.1%}" if figures.HasField("success_rate") else "",
        f"{failures:,}",
        *(_took(figures, name) for name in ("latency_p50", "latency_p95", "latency_p99")),
        f"{figures.average_attempts:.2f}" if figures.HasField("average_attempts") else "",
        f"{figures.cache_hit_count:,}",
        words(figures.cost_micros),
    ]


def values(figures: pb.UsageFigures) -> dict[str, Any]:
    """Figures for programs: every field, None for what there is none of; times in seconds."""
    return dict(_values(figures))


def _values(figures: pb.UsageFigures) -> Iterator[tuple[str, Any]]:
    there = {field.name for field, _ in figures.ListFields()}
    for field in pb.UsageFigures.DESCRIPTOR.fields:
        value: Any = getattr(figures, field.name) if not field.has_presence or field.name in there else None
        if field.message_type is None:
            yield field.name, value
        else:
            yield f"{field.name}_seconds", None if value is None else value.ToMicroseconds() / 1e6


def _name(row: pb.UsageRow, dimension: str) -> str:
    if dimension in {"day", "hour"}:
        moment = row.start_time.ToDatetime(tzinfo=UTC)
        return f"{moment:%Y-%m-%d}" if dimension == "day" else f"{moment:%Y-%m-%d %H:00}"
    named = {"tool": row.tool, "category": row.category, "tenant": row.tenant_id, "user": row.user_id}
    return named.get(dimension, row.agent_id)


def _took(figures: pb.UsageFigures, name: str) -> str:
    if not figures.HasField(name):  # pyright: ignore[reportArgumentType]
        return ""
    duration: Duration = getattr(figures, name)
    return took(duration.ToTimedelta())


def took(time: timedelta) -> str:
    """A length of time, with three digits that count."""
    seconds = time.total_seconds()
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:,.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def _one(typed: str, known: Mapping[str, int], option: str) -> int:
    if typed not in known:
        raise UsageError(f"{option} {typed}: write one of {', '.join(known)}")
    return known[typed]
