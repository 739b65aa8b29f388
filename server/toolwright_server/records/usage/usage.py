"""Answers questions about usage: who may ask what, which rows come first. Knows neither gRPC nor databases."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.identity import Caller, Role
from toolwright_server.records.usage.latency import quantiles
from toolwright_server.records.usage.model import (
    HOUR_SECONDS,
    PART_ROWS,
    Dimension,
    Figures,
    Group,
    Order,
    UsageQuery,
)
from toolwright_server.records.usage.store import UsageStore

# The period when none is named.
DEFAULT_HOURS: Final = 7 * 24
# No time can be written before the year 1, nor behind the last hour of 9999, not even one that was only rounded up.
FIRST_HOUR: Final = -62_135_596_800 // HOUR_SECONDS
LAST_HOUR: Final = 253_402_300_799 // HOUR_SECONDS
_SLOW: Final = (0.95,)

# The tools that are enabled for a tenant (empty: for nobody in particular), by name and category.
Offered = Callable[[str], Sequence[tuple[str, str]]]

# What a row is sorted by: the figure, and then its group. Empty: before all.
Place = tuple[float | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question. Times in seconds since the epoch; None and empty: not given.

    `limit`: most rows to answer; only those `behind` a place.
    """

    dimensions: tuple[Dimension, ...] = ()
    start: float | None = None
    end: float | None = None
    tenant: str = ""
    user: str = ""
    agent: str = ""
    tool: str = ""
    category: str = ""
    order: Order = Order.DIMENSIONS
    unused: bool = False
    behind: Place = ()
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One group with its sum, and where it stands."""

    dimensions: tuple[Dimension, ...]
    group: Group
    figures: Figures
    place: Place


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows that were asked for, in order, the sum of all, and the period in hours since the epoch."""

    rows: Sequence[Row]
    total: Figures
    since: int
    until: int


class Usage:
    """See the module. `clock`: seconds since the epoch."""

    def __init__(self, store: UsageStore, offered: Offered, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._offered = offered
        self._clock = clock

    async def query(self, asked: Asked, by: Caller) -> Answer:
        """What was asked for. Raises INVALID_ARGUMENTS, STORE_UNAVAILABLE and FORBIDDEN."""
        if asked.unused and asked.dimensions != (Dimension.TOOL,):
            raise invalid("include_unused", "needs group_by with TOOL and nothing else")
        query = self._query(asked, by)
        found = dict(await self._store.summed(query))
        if asked.unused:
            for name, category in self._unused(query, found, by):
                found[name, category] = Figures()
        if not query.dimensions and not found:
            found[()] = Figures()
        total, rows = Figures(), list[Row]()
        for number, (group, figures) in enumerate(found.items(), 1):
            total.merge(figures)
            rows.append(Row(query.dimensions, group, figures, (_rank(asked.order, figures), *group)))
            if number % PART_ROWS == 0:
                # Of many, as many as are answered are carried along: sorting all at the end would hold up other calls.
                rows = _first(rows, asked)
                await asyncio.sleep(0)
        return Answer(_first(rows, asked), total, query.since, query.until)

    def _query(self, asked: Asked, by: Caller) -> UsageQuery:
        tenant, user = _visible(asked.tenant, asked.user, by)
        end = self._clock() if asked.end is None else asked.end
        until = min(-int(-end // HOUR_SECONDS), LAST_HOUR)
        since = until - DEFAULT_HOURS if asked.start is None else int(asked.start // HOUR_SECONDS)
        if since >= until:
            raise invalid("start_time", "is not before end_time")
        return UsageQuery(
            dimensions=_completed(asked.dimensions),
            since=since,
            until=until,
            tenant=tenant,
            user=user,
            agent=asked.agent,
            tool=asked.tool,
            category=asked.category,
        )

    def _unused(self, query: UsageQuery, found: Mapping[Group, Figures], by: Caller) -> Sequence[Group]:
        """Tools that the caller may call and that are not among what was found."""
        called = {group[0] for group in found}
        return [
            (name, category)
            for name, category in self._offered(query.tenant)
            if name not in called
            and by.may_call(name)
            and query.tool in {"", name}
            and query.category in {"", category}
        ]


def _visible(tenant: str, user: str, by: Caller) -> tuple[str, str]:
    """The tenant and user that are asked for, empty: all. Raises FORBIDDEN."""
    if by.role is not Role.ADMIN:
        tenant = tenant or by.tenant
    if by.role is Role.AGENT:
        user = user or by.user
    if not by.sees(tenant, user):
        whose = f"user {user[:64]!r}" if user and tenant == by.tenant else f"tenant {tenant[:64]!r}"
        raise ToolwrightError(Reason.FORBIDDEN, f"the usage of {whose} is not for this credential")
    return tenant, user


def _completed(dimensions: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
    """With what belongs to them: a tool's category, a user's tenant; a day is in its hours already."""
    if len(set(dimensions)) < len(dimensions):
        raise invalid("group_by", "names a dimension twice")
    found: list[Dimension] = []
    for each in dimensions:
        if each is Dimension.DAY and Dimension.HOUR in dimensions:
            continue
        found.append(each)
        if each is Dimension.TOOL and Dimension.CATEGORY not in dimensions:
            found.append(Dimension.CATEGORY)
        if each is Dimension.USER and Dimension.TENANT not in dimensions:
            found.append(Dimension.TENANT)
    return tuple(found)


def _first(rows: Sequence[Row], asked: Asked) -> list[Row]:
    """Those that may be answered, in order. Raises INVALID_ARGUMENTS for a place that is none of such rows."""
    try:
        left = [row for row in rows if row.place > asked.behind]
    except TypeError:
        raise invalid("page_token", "is not one that this server gave out") from None
    return sorted(left, key=lambda row: row.place)[: asked.limit]


def _rank(order: Order, figures: Figures) -> float:
    """Lowest first."""
    if order is Order.MOST_CALLS:
        return -figures.calls
    if order is Order.FEWEST_CALLS:
        return figures.calls
    if order is Order.MOST_FAILURES:
        return -figures.failures
    if order is Order.MOST_COST:
        return -figures.of("cost_micros")
    if order is Order.SLOWEST:
        slow = quantiles(figures.latencies, _SLOW)
        return -slow[0] if slow else 0.0
    return 0.0
