"""The statements of the writer, as text made once: on the hot path nothing is compiled."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from toolwright_server.stores.sql.rows import MUTABLE
from toolwright_server.stores.sql.tables import audit_entries, executions, request_ids

# Rows that go into one statement of SQLite: each step of a statement lets go of the interpreter's lock and must win
# it back from the event loop, so a statement for all of a group is cheaper than one for each row.
_SIZES: Final = (32, 16, 8, 4, 2, 1)

_OVERWRITE = "ON CONFLICT (execution_id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in MUTABLE)
# An expired claim is taken over; so is one's own, which is there when a commit came through that seemed to fail.
_TAKE_OVER = (
    "ON CONFLICT (tenant, request_id, principal) DO UPDATE SET execution_id = excluded.execution_id, "
    "digest = excluded.digest, expire_time = excluded.expire_time "
    "WHERE request_ids.expire_time <= {now} OR request_ids.execution_id = excluded.execution_id "
    "RETURNING execution_id"
)


class Values:
    """An INSERT of many rows for SQLite, in statements of a few sizes, so that the driver finds each prepared."""

    def __init__(self, table: sa.Table, suffix: str = "") -> None:
        self._one = "(" + ", ".join("?" for _ in table.columns) + ")"
        self._head = f"{_head(table)} VALUES "
        self._suffix = suffix
        self._texts = {size: self._text(size) for size in _SIZES}

    def _text(self, size: int) -> str:
        return f"{self._head}{', '.join([self._one] * size)} {self._suffix}"

    def batches(self, rows: Sequence[Sequence[Any]], *last: Any) -> Iterator[tuple[str, list[Any]]]:
        """Statements with their parameters; `last` are those of the suffix."""
        start = 0
        for size in _SIZES:
            while len(rows) - start >= size:
                flat = [value for row in rows[start : start + size] for value in row]
                flat += last
                yield self._texts[size], flat
                start += size


class Unnest:
    """An INSERT of many rows for PostgreSQL: one statement, one array for each column."""

    def __init__(self, table: sa.Table, suffix: str = "") -> None:
        types = [_array(column) for column in table.columns]
        arrays = ", ".join(f"${number}::{each}" for number, each in enumerate(types, 1))
        self.text = f"{_head(table)} SELECT * FROM unnest({arrays}) {suffix}"  # noqa: S608 (our own tables)

    def arrays(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """The rows, turned: one value for each parameter of the text."""
        return list(zip(*rows, strict=True))


def _head(table: sa.Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(column.name for column in table.columns)})"


def _array(column: sa.Column[Any]) -> str:
    kind = column.type
    if isinstance(kind, sa.JSON | JSONB):
        return "jsonb[]"
    for type_, name in (
        (sa.Text, "text"),
        (sa.SmallInteger, "smallint"),
        (sa.BigInteger, "bigint"),
        (sa.Integer, "integer"),
        (sa.Double, "double precision"),
        (sa.LargeBinary, "bytea"),
    ):
        if isinstance(kind, type_):
            return f"{name}[]"
    raise TypeError(f"{column}: no array type is known for {kind}")


SQLITE_EXECUTIONS: Final = Values(executions, _OVERWRITE)
SQLITE_CLAIMS: Final = Values(request_ids, _TAKE_OVER.format(now="?"))
SQLITE_ENTRIES: Final = Values(audit_entries)
SQLITE_LINKED: Final = "SELECT 1 FROM audit_entries WHERE chain_id = ? AND sequence = ? AND hash = ?"
SQLITE_HOLDER: Final = "SELECT execution_id FROM request_ids WHERE tenant = ? AND request_id = ? AND principal = ?"
SQLITE_FREE: Final = (
    "UPDATE request_ids SET expire_time = 0 WHERE tenant = ? AND request_id = ? AND principal = ? AND execution_id = ?"
)
SQLITE_FENCE: Final = "SELECT 1 FROM servers WHERE server_id = ? AND epoch = ?"

POSTGRES_EXECUTIONS: Final = Unnest(executions, _OVERWRITE)
POSTGRES_CLAIMS: Final = Unnest(request_ids, _TAKE_OVER.format(now=f"${len(request_ids.columns) + 1}"))
POSTGRES_ENTRIES: Final = Unnest(audit_entries)
POSTGRES_LINKED: Final = SQLITE_LINKED.replace("?", "${}").format(1, 2, 3)
POSTGRES_HOLDER: Final = SQLITE_HOLDER.replace("?", "${}").format(1, 2, 3)
POSTGRES_FREE: Final = SQLITE_FREE.replace("?", "${}").format(1, 2, 3, 4)
# Until the group's end nobody can take the lease over: whoever deletes it waits, and then finds what was written.
POSTGRES_BEGIN_FENCED: Final = (
    "BEGIN; SELECT 1 FROM servers WHERE server_id = {server_id} AND epoch = {epoch} FOR SHARE"
)
