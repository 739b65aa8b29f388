"""Keeps the sums of usage up to date in the commit of what they are made of: a group of outcomes comes to a few rows.

There are two tables of the same sums: by tool, which most questions read, and by user, agent and tool, for what the
first cannot tell. Rows are added to in the order of their keys, those by user first, so that servers never wait for
each other in a circle; on PostgreSQL each server has a sheet of its own (`shard`), so that they hardly wait at all.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa

from toolwright_server.records.usage.model import COUNTS, Figures, Use
from toolwright_server.stores.sql.statements import Unnest, Values
from toolwright_server.stores.sql.tables import usage_by_tool, usage_by_user

_Row = tuple[Any, ...]

_SQLITE_MERGED: Final = (
    "(SELECT json_group_object(bucket, count) FROM (SELECT bucket, sum(count) AS count FROM ("
    "SELECT key AS bucket, value AS count FROM json_each({table}.latencies) UNION ALL "
    "SELECT key, value FROM json_each(excluded.latencies)) GROUP BY bucket HAVING sum(count) <> 0))"
)
_POSTGRES_MERGED: Final = (
    "(SELECT coalesce(jsonb_object_agg(bucket, count), '{{}}') FROM (SELECT bucket, sum(count)::bigint AS count FROM ("
    "SELECT key AS bucket, value::bigint AS count FROM jsonb_each_text({table}.latencies) UNION ALL "
    "SELECT key, value::bigint FROM jsonb_each_text(excluded.latencies)) AS each GROUP BY bucket "
    "HAVING sum(count) <> 0) AS merged)"
)


class Rollup:
    """One of the tables, and how it is added to."""

    def __init__(self, table: sa.Table, key: Sequence[int]) -> None:
        # Which fields of a Use are its key, in the order of the columns.
        self._key = tuple(key)
        self._sqlite = Values(table, _adding(table, _SQLITE_MERGED))
        self._postgres = Unnest(table, _adding(table, _POSTGRES_MERGED))

    def sqlite(self, uses: Sequence[tuple[int, Use]]) -> Iterator[tuple[str, list[Any]]]:
        """Statements with their parameters."""
        return self._sqlite.batches(self._rows(uses))

    def postgres(self, uses: Sequence[tuple[int, Use]]) -> tuple[str, list[tuple[Any, ...]]]:
        """One statement with its parameters."""
        return self._postgres.text, self._postgres.arrays(self._rows(uses))

    def _rows(self, uses: Iterable[tuple[int, Use]]) -> list[_Row]:
        sums: dict[_Row, Figures] = {}
        for sign, use in uses:
            key = tuple(use[number] for number in self._key)
            figures = sums.get(key)
            if figures is None:
                figures = sums[key] = Figures()
            figures.add(use, sign)
        return [(*key, *sums[key].counts, _text(sums[key].latencies)) for key in sorted(sums)]


def _adding(table: sa.Table, merged: str) -> str:
    """What happens to a row that is there."""
    key = ", ".join(column.name for column in table.primary_key)
    sums = [f"{name} = {table.name}.{name} + excluded.{name}" for name in COUNTS]
    return f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(sums)}, latencies = {merged.format(table=table.name)} "


def _text(latencies: dict[int, int]) -> str:
    return orjson.dumps(
        {bucket: count for bucket, count in latencies.items() if count}, option=orjson.OPT_NON_STR_KEYS
    ).decode()


# The second leaves users and agents out. The order in which they are written.
ROLLUPS: Final = (Rollup(usage_by_user, (0, 1, 2, 3, 4, 5, 6)), Rollup(usage_by_tool, (0, 1, 4, 5, 6)))
