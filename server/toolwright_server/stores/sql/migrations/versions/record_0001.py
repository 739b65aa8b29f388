"""The record: executions, request ids, servers, the audit trail, API keys.

A copy of the tables as they were then: a migration must not change when `tables.py` does.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TIME: sa.types.TypeEngine[float] = sa.Double()
_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    metadata = sa.MetaData()
    _executions(metadata)
    _request_ids(metadata)
    _servers(metadata)
    _audit(metadata)
    _api_keys(metadata)
    _table(metadata, "facts", ["name"], "name", _bytes("value"))
    metadata.create_all(op.get_bind())


def _executions(metadata: sa.MetaData) -> None:
    _table(
        metadata,
        "executions",
        ["execution_id"],
        "execution_id tenant principal user_id",
        sa.Column("state", sa.SmallInteger, nullable=False),
        "tool category task_id parent_execution_id session_id agent_id request_id trace_id server_id",
        _number("epoch"),
        _time("create_time"),
        _time("end_time", nullable=True),
        sa.Column("stopped", sa.SmallInteger, nullable=False),
        _json("labels", nullable=True),
        _bytes("digest"),
        _bytes("body"),
        _bytes("arguments", nullable=True),
        _bytes("result", nullable=True),
        _bytes("salt", nullable=True),
        sa.Index("executions_of_tenant", "tenant", "execution_id"),
        sa.Index("executions_of_user", "tenant", "user_id", "execution_id"),
        _partial("executions_of_task", "task_id", "execution_id", where="task_id <> execution_id"),
        _partial("executions_of_session", "session_id", "execution_id", where="session_id <> ''"),
        _partial("executions_unfinished", "server_id", "epoch", where="state < 6"),
        _partial("executions_failed", "tenant", "state", "execution_id", where="6 < state"),
    )


def _request_ids(metadata: sa.MetaData) -> None:
    _table(
        metadata,
        "request_ids",
        ["tenant", "request_id", "principal"],
        "tenant request_id principal execution_id",
        _bytes("digest"),
        _time("expire_time"),
        sqlite_with_rowid=False,
    )


def _servers(metadata: sa.MetaData) -> None:
    _table(
        metadata,
        "servers",
        ["server_id"],
        "server_id",
        _number("epoch"),
        _time("lease_time"),
        _time("start_time"),
        "address",
        sqlite_with_rowid=False,
    )


def _audit(metadata: sa.MetaData) -> None:
    _table(
        metadata,
        "audit_entries",
        ["chain_id", "sequence"],
        "chain_id",
        _number("sequence"),
        _time("time"),
        "tenant kind principal user_id execution_id",
        _bytes("body"),
        _bytes("previous"),
        _bytes("hash"),
        sa.Index("audit_entries_of_tenant", "tenant", "time"),
    )
    _table(
        metadata,
        "audit_checkpoints",
        ["chain_id", "sequence"],
        "chain_id",
        _number("sequence"),
        _time("time"),
        _bytes("hash"),
        _bytes("signature"),
        _bytes("body"),
    )


def _api_keys(metadata: sa.MetaData) -> None:
    _table(
        metadata,
        "api_keys",
        ["key_id"],
        "key_id tenant principal user_id role",
        _json("acts_for"),
        _json("scopes"),
        _bytes("secret_hash"),
        _time("create_time"),
        _time("expire_time", nullable=True),
        _time("revoke_time", nullable=True),
        "label",
        sa.Index("api_keys_of_tenant", "tenant", "key_id"),
        _partial("api_keys_revoked", "revoke_time", where="revoke_time IS NOT NULL"),
    )


def _table(
    metadata: sa.MetaData, name: str, primary: list[str], *parts: str | sa.schema.SchemaItem, **options: Any
) -> None:
    """A table of these parts; a text among them names columns of text that are never null."""
    items: list[sa.schema.SchemaItem] = []
    for part in parts:
        if isinstance(part, str):
            items += [sa.Column(column, _KEY, nullable=False) for column in part.split()]
        else:
            items.append(part)
    sa.Table(name, metadata, *items, sa.PrimaryKeyConstraint(*primary, name=f"{name}_pk"), **options)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, _TIME, nullable=nullable)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _JSON, nullable=nullable)


def _partial(name: str, *columns: str, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
