"""Keeps the sums of usage up to date in the commit of what they are made of: a group of outcomes comes to a few rows.

There are two tables of the same sums: by tool, which most questions read, and by user, agent and tool, for what the
first cannot tell. Rows are added to in the order of their keys, those by user first, so that servers never wait for
each other in a circle; on PostgreSQL each server has a sheet of its own (`shard`), so that they hardly wait at all.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import Any, Final

import orjson
import sqlalchemy as sa

from toolwright_server.records.usage.model import COUNTS, Use
from toolwright_server.stores.sql.statements import Unnest, Values
from toolwright_server.stores.sql.tables import usage_by_tool, usage_by_user

_Row = tuple[Any, ...]
# Counts, and latencies by bucket, of each key.
_Sums = dict[_Row, tuple[Sequence[int], dict[int, int]]]

# A function of ours: SQLite's own ones for JSON take three times as long as all the rest of an upsert.
_SQLITE_MERGE: Final = "merged_latencies"
_SQLITE_MERGED: Final = f"{_SQLITE_MERGE}({{table}}.latencies, excluded.latencies)"
_POSTGRES_MERGED: Final = (
    "(SELECT coalesce(jsonb_object_agg(bucket, count), '{{}}') FROM (SELECT bucket, sum(count)::bigint AS count FROM ("
    "SELECT key AS bucket, value::bigint AS count FROM jsonb_each_text({table}.latencies) UNION ALL "
    "SELECT key, value::bigint FROM jsonb_each_text(excluded.latencies)) AS each GROUP BY bucket "
    "HAVING sum(count) <> 0) AS merged)"
)
# What of a Use are the key by user, and of that the key by tool.
_KEY: Final = slice(0, 7)
_HOUR, _TENANT, _TOOL, _CATEGORY, _SHARD = 0, 1, 4, 5, 6


def prepare(connection: sqlite3.Connection) -> None:
    """Teach a connection what `sqlite_statements` need."""
    connection.create_function(_SQLITE_MERGE, 2, _merged, deterministic=True)


def _merged(known: str, more: str) -> str:
    sums: dict[str, int] = orjson.loads(known)
    for bucket, count in orjson.loads(more).items():
        sums[bucket] = sums.get(bucket, 0) + count
        if not sums[bucket]:
            del sums[bucket]
    return orjson.dumps(sums).decode()


def sqlite_statements(uses: Iterable[tuple[int, Use]]) -> Iterable[tuple[str, list[Any]]]:
    """What adds the uses that have a 1, and takes away those that have a -1, on a connection that was prepared."""
    by_user = _by_user(uses)
    yield from _SQLITE_BY_USER.batches(_rows(by_user))
    yield from _SQLITE_BY_TOOL.batches(_rows(_by_tool(by_user)))


def postgres_statements(uses: Iterable[tuple[int, Use]]) -> Iterable[tuple[str, list[_Row]]]:
    """The same for PostgreSQL."""
    by_user = _by_user(uses)
    if not by_user:
        return
    yield _POSTGRES_BY_USER.text, _POSTGRES_BY_USER.arrays(_rows(by_user))
    yield _POSTGRES_BY_TOOL.text, _POSTGRES_BY_TOOL.arrays(_rows(_by_tool(by_user)))


def _by_user(uses: Iterable[tuple[int, Use]]) -> _Sums:
    sums: _Sums = {}
    for sign, use in uses:
        counts = use.counts if sign > 0 else tuple(-count for count in use.counts)
        _add(sums, use[_KEY], counts, {} if use.bucket is None else {use.bucket: sign})
    return sums


def _by_tool(by_user: _Sums) -> _Sums:
    sums: _Sums = {}
    for key, (counts, latencies) in by_user.items():
        _add(sums, (key[_HOUR], key[_TENANT], key[_TOOL], key[_CATEGORY], key[_SHARD]), counts, latencies.copy())
    return sums


def _add(sums: _Sums, key: _Row, counts: Sequence[int], latencies: dict[int, int]) -> None:
    known = sums.get(key)
    if known is None:
        sums[key] = counts, latencies
        return
    sums[key] = list(map(add, known[0], counts)), known[1]
    for bucket, count in latencies.items():
        known[1][bucket] = known[1].get(bucket, 0) + count


def _rows(sums: _Sums) -> list[_Row]:
    return [(*key, *sums[key][0], _text(sums[key][1])) for key in sorted(sums)]


def _text(latencies: Mapping[int, int]) -> str:
    return orjson.dumps(latencies, option=orjson.OPT_NON_STR_KEYS).decode()


def _adding(table: sa.Table, merged: str) -> str:
    """What happens to a row that is there."""
    key = ", ".join(column.name for column in table.primary_key)
    sums = [f"{name} = {table.name}.{name} + excluded.{name}" for name in COUNTS]
    return f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(sums)}, latencies = {merged.format(table=table.name)} "


_SQLITE_BY_USER: Final = Values(usage_by_user, _adding(usage_by_user, _SQLITE_MERGED))
_SQLITE_BY_TOOL: Final = Values(usage_by_tool, _adding(usage_by_tool, _SQLITE_MERGED))
_POSTGRES_BY_USER: Final = Unnest(usage_by_user, _adding(usage_by_user, _POSTGRES_MERGED))
_POSTGRES_BY_TOOL: Final = Unnest(usage_by_tool, _adding(usage_by_tool, _POSTGRES_MERGED))
