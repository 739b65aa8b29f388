"""Sums of usage, and what the executions that there are come to.

A copy of the tables and of what an execution counts for as they were then: a migration must not change when the code
does.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_COUNTS = [
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "rejected",
    "outcome_unknown",
    "attempted",
    "attempts",
    "cached",
    "joined",
    "fallbacks",
    "cost_micros",
    "queue_micros",
    "tool_micros",
]
_BY_TOOL = ("hour", "tenant", "tool", "category", "shard")
_BY_USER = ("hour", "tenant", "user_id", "agent_id", "tool", "category", "shard")
# executions.state of each of the first six counts.
_FIRST_STATE, _LAST_STATE = 6, 11
_READ = """
    SELECT execution_id, tenant, user_id, agent_id, tool, category, server_id, state, create_time, cost_micros, body
    FROM executions WHERE execution_id > :last AND state >= 6 ORDER BY execution_id LIMIT 5000
"""
_MERGED = {
    "sqlite": (
        "(SELECT json_group_object(bucket, count) FROM (SELECT bucket, sum(count) AS count FROM ("
        "SELECT key AS bucket, value AS count FROM json_each({table}.latencies) UNION ALL "
        "SELECT key, value FROM json_each(excluded.latencies)) GROUP BY bucket))"
    ),
    "postgresql": (
        "(SELECT coalesce(jsonb_object_agg(bucket, count), '{{}}') FROM (SELECT bucket, sum(count)::bigint AS count "
        "FROM (SELECT key AS bucket, value::bigint AS count FROM jsonb_each_text({table}.latencies) UNION ALL "
        "SELECT key, value::bigint FROM jsonb_each_text(excluded.latencies)) AS each GROUP BY bucket) AS merged)"
    ),
}
# Rows that are held in memory at once.
_HELD = 20_000

_Sums = dict[tuple[Any, ...], tuple[list[int], dict[int, int]]]


def upgrade() -> None:
    """Make the tables, and fill them."""
    metadata = sa.MetaData()
    for name, key in (("usage_by_tool", _BY_TOOL), ("usage_by_user", _BY_USER)):
        sa.Table(
            name,
            metadata,
            sa.Column("hour", sa.Integer, nullable=False),
            *(sa.Column(each, _KEY, nullable=False) for each in key[1:-1]),
            sa.Column("shard", sa.SmallInteger, nullable=False),
            *(sa.Column(each, sa.BigInteger, nullable=False) for each in _COUNTS),
            sa.Column("latencies", _JSON, nullable=False),
            sa.PrimaryKeyConstraint(*key, name=f"{name}_pk"),
            sqlite_with_rowid=False,
        )
    metadata.create_all(op.get_bind())
    fill(op.get_bind())


def fill(connection: sa.Connection, held: int = _HELD) -> None:
    """Count every execution that has ended, holding so many sums in memory at once."""
    by_tool: _Sums = {}
    by_user: _Sums = {}
    for row in _ended(connection):
        hour, shard = int(row.create_time // 3600), zlib.crc32(row.server_id.encode()) % 16
        counts, bucket = _counts(row)
        _add(by_tool, (hour, row.tenant, row.tool, row.category, shard), counts, bucket)
        _add(by_user, (hour, row.tenant, row.user_id, row.agent_id, row.tool, row.category, shard), counts, bucket)
        if len(by_user) >= held:
            _write(connection, "usage_by_tool", _BY_TOOL, by_tool)
            _write(connection, "usage_by_user", _BY_USER, by_user)
    _write(connection, "usage_by_tool", _BY_TOOL, by_tool)
    _write(connection, "usage_by_user", _BY_USER, by_user)


def _ended(connection: sa.Connection) -> Iterator[Any]:
    last = ""
    while page := connection.execute(sa.text(_READ), {"last": last}).all():
        yield from page
        last = page[-1].execution_id


def _counts(row: Any) -> tuple[list[int], int | None]:
    body = orjson.loads(row.body)
    counts = [int(row.state == state) for state in range(_FIRST_STATE, _LAST_STATE + 1)]
    attempts, tool = body["attempts"], body.get("tool_seconds")
    # Before this, results came from tools alone.
    counts += [int(attempts > 0), attempts, 0, 0, 0, row.cost_micros]
    if tool is None:
        return [*counts, 0, 0], None
    queue = body.get("queue_seconds") or 0.0
    return [*counts, round(queue * 1e6), round(tool * 1e6)], _bucket(queue + tool)


def _bucket(seconds: float) -> int:
    return min(425, math.ceil(math.log(max(1.0, seconds * 1e4)) / math.log(1.05)))


def _add(sums: _Sums, key: tuple[Any, ...], counts: list[int], bucket: int | None) -> None:
    have, latencies = sums.get(key, ([0] * len(_COUNTS), {}))
    sums[key] = [one + more for one, more in zip(have, counts, strict=True)], latencies
    if bucket is not None:
        latencies[bucket] = latencies.get(bucket, 0) + 1


def _write(connection: sa.Connection, table: str, key: tuple[str, ...], sums: _Sums) -> None:
    if not sums:
        return
    names = [*key, *_COUNTS, "latencies"]
    is_sqlite = connection.dialect.name == "sqlite"
    values = [f":{name}" if is_sqlite or name != "latencies" else "CAST(:latencies AS jsonb)" for name in names]
    adding = [f"{name} = {table}.{name} + excluded.{name}" for name in _COUNTS]
    adding.append(f"latencies = {_MERGED[connection.dialect.name].format(table=table)}".replace("::", r"\:\:"))
    statement = (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)}) "  # noqa: S608 (our own names)
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(adding)}"
    )
    rows = [
        dict(
            zip(names, (*each, *counts, orjson.dumps(latencies, option=orjson.OPT_NON_STR_KEYS).decode()), strict=True)
        )
        for each, (counts, latencies) in sums.items()
    ]
    connection.execute(sa.text(statement), rows)
    sums.clear()
