"""The UsageStore on SQLite or PostgreSQL: sums the roll-ups that rollups.py keeps, and erases old ones.

The database sums the counts; buckets of latencies come as they are, no more than a day's of a group at once, and are
summed here, some rows at a time, so that calls go on meanwhile.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.records.usage.model import (
    COUNTS,
    DAY_HOURS,
    HOUR_SECONDS,
    MOST_ROWS,
    PART_ROWS,
    Dimension,
    Figures,
    Group,
    UsageQuery,
)
from toolwright_server.records.usage.store import too_many
from toolwright_server.stores.sql.change import Change, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import usage_by_tool, usage_by_user
from toolwright_server.stores.sql.writer import Writer

_COLUMNS: Final = {
    Dimension.TOOL: "tool",
    Dimension.CATEGORY: "category",
    Dimension.TENANT: "tenant",
    Dimension.USER: "user_id",
    Dimension.AGENT: "agent_id",
    Dimension.HOUR: "hour",
}


class SqlUsage:
    """See the module."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def summed(self, query: UsageQuery) -> Mapping[Group, Figures]:
        """See UsageStore."""
        found: dict[Group, Figures] = {}
        width, is_sqlite = len(query.dimensions), self._database.options.is_sqlite
        try:
            async with self._database.reading() as connection:
                if not is_sqlite:
                    # Its cursors live in transactions.
                    await connection.execution_options(isolation_level="READ COMMITTED")
                result = await connection.stream(_statement(query, sqlite=is_sqlite))
                async for part in result.partitions(PART_ROWS):
                    for row in part:
                        figures = _figures(row[width:])
                        known = found.setdefault(tuple(row[:width]), figures)
                        if known is not figures:
                            known.merge(figures)
                    if len(found) > MOST_ROWS:
                        raise too_many()
                    await asyncio.sleep(0)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error
        return found

    async def erase(self, before: float, limit: int) -> int:
        """Erase at most `limit` rows of hours before `before` (seconds since the epoch); how many it were. An `Erase`
        of retention. Raises STORE_UNAVAILABLE.
        """
        hour, erased = int(before // HOUR_SECONDS), 0

        def work(connection: sa.Connection) -> tuple[()]:
            nonlocal erased
            erased = 0
            for table in (usage_by_user, usage_by_tool):
                key = tuple(table.primary_key)
                old = sa.select(*key).where(table.c.hour < hour).order_by(*key).limit(limit - erased)
                gone = sa.delete(table).where(sa.tuple_(*key).in_(old.with_for_update(skip_locked=True)))
                erased += connection.execute(gone).rowcount
            return ()

        try:
            await self._writer.submit(Change(work=work))
        except Unkept as error:
            raise unavailable(error) from error
        return erased


def _statement(query: UsageQuery, *, sqlite: bool) -> sa.Select[Any]:
    table = usage_by_user if query.is_about_users else usage_by_tool
    day = sa.cast(table.c.hour // DAY_HOURS, sa.Integer)
    groups = [day if each is Dimension.DAY else table.c[_COLUMNS[each]] for each in query.dimensions]
    # Also by day, so that nothing grows with the period.
    by = [*groups, day]
    joined = (
        sa.func.group_concat(table.c.latencies, type_=sa.Text())
        if sqlite
        else sa.func.string_agg(sa.cast(table.c.latencies, sa.Text), sa.literal(",", sa.Text()), type_=sa.Text())
    )
    sums = [sa.func.sum(table.c[name]) for name in COUNTS]
    return sa.select(*groups, *sums, joined).where(*_conditions(query, table)).group_by(*by)


def _conditions(query: UsageQuery, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    if query.user and query.tenant:
        found: list[sa.ColumnElement[bool]] = [table.c.hour.in_(_hours(query, table))]
    else:
        found = [table.c.hour >= query.since, table.c.hour < query.until]
    wanted = {
        "tenant": query.tenant,
        "user_id": query.user,
        "agent_id": query.agent,
        "tool": query.tool,
        "category": query.category,
    }
    return found + [table.c[name] == value for name, value in wanted.items() if value]


def _hours(query: UsageQuery, table: sa.Table) -> sa.Select[Any]:
    """One by one: of each the rows of a user lie together, and nobody else's are read. From each hour that there is to
    the next, as a period may be far longer than anything has been kept.
    """
    rows = table.alias()
    found = sa.select(sa.func.min(rows.c.hour).label("hour")).where(rows.c.hour < query.until)
    hours = found.where(rows.c.hour >= query.since).cte("hours", recursive=True)
    following = found.where(rows.c.hour > hours.c.hour).correlate(hours).scalar_subquery()
    hours = hours.union_all(sa.select(following).where(hours.c.hour.is_not(None)))
    return sa.select(hours.c.hour).where(hours.c.hour.is_not(None))


def _figures(sums: Any) -> Figures:
    figures = Figures([int(each) for each in sums[:-1]])
    latencies = figures.latencies
    for each in orjson.loads(f"[{sums[-1]}]"):
        for bucket, count in each.items():
            latencies[bucket] = latencies.get(bucket, 0) + count
    figures.latencies = {int(bucket): count for bucket, count in latencies.items()}
    return figures
