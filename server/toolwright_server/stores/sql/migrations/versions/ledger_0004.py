"""Costs of executions and of tasks, and the ledger of credits.

A copy of the tables as they were then: a migration must not change when `tables.py` does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TIME: sa.types.TypeEngine[float] = sa.Double()


def upgrade() -> None:
    """Add the columns, make the tables."""
    for name in ("hold_micros", "cost_micros"):
        op.add_column("executions", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")))
    metadata = sa.MetaData()
    _accounts(metadata)
    _grants(metadata)
    _tasks(metadata)
    metadata.create_all(op.get_bind())


def _accounts(metadata: sa.MetaData) -> None:
    sa.Table(
        "ledger_accounts",
        metadata,
        *_texts("tenant account"),
        *_numbers("balance_micros last_number"),
        sa.PrimaryKeyConstraint("tenant", "account", name="ledger_accounts_pk"),
        sqlite_with_rowid=False,
    )
    sa.Table(
        "ledger_entries",
        metadata,
        *_texts("tenant"),
        *_numbers("number"),
        *_texts("account kind"),
        *_numbers("amount_micros balance_micros"),
        sa.Column("time", _TIME, nullable=False),
        *_texts("execution_id request_id user_id note"),
        sa.PrimaryKeyConstraint("tenant", "number", "account", name="ledger_entries_pk"),
        _partial("ledger_entries_of_execution", "execution_id", where="execution_id <> ''"),
    )


def _grants(metadata: sa.MetaData) -> None:
    sa.Table(
        "ledger_holds",
        metadata,
        *_texts("execution_id tenant user_id task_id"),
        *_numbers("amount_micros"),
        sa.Column("credited", sa.SmallInteger, nullable=False),
        *_texts("parts"),
        sa.Column("time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("execution_id", name="ledger_holds_pk"),
    )
    sa.Table(
        "ledger_grants",
        metadata,
        *_texts("tenant request_id"),
        *_numbers("number amount_micros balance_micros"),
        sa.Column("time", _TIME, nullable=False),
        *_texts("user_id note"),
        sa.Column("expire_time", _TIME),
        *_numbers("left_micros"),
        sa.PrimaryKeyConstraint("tenant", "request_id", name="ledger_grants_pk"),
        _partial("ledger_grants_expiring", "tenant", where="0 < left_micros"),
    )


def _tasks(metadata: sa.MetaData) -> None:
    sa.Table(
        "task_costs",
        metadata,
        *_texts("tenant user_id task_id"),
        *_numbers("cost_micros"),
        sa.Column("update_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "user_id", "task_id", name="task_costs_pk"),
        sa.Index("task_costs_by_time", "update_time"),
        sqlite_with_rowid=False,
    )


def _texts(names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _KEY, nullable=False) for name in names.split()]


def _numbers(names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names.split()]


def _partial(name: str, *columns: str, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
