"""The tables of the record, and which query each index is for. Changed here and in `migrations/` together.

Times are seconds since the epoch. Ids are UUIDv7 text, so their order is the order of creation, and every new row
goes to the end of the tables and indexes that begin with it.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from toolwright_server.execution.model import TERMINAL, State
from toolwright_server.records.usage.model import COUNTS

# The newest migration. A database that is there already needs no look into `migrations/`, nor alembic.
REVISION: Final = "0008"

metadata = sa.MetaData()

# Compared byte by byte on both databases: ids keep their order whatever the language of the database.
_Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Time: sa.types.TypeEngine[float] = sa.Double()
_Number = sa.BigInteger()
_Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _key(name: str, **options: Any) -> sa.Column[str]:
    return sa.Column(name, _Key, nullable=False, **options)


def _micros(name: str, **options: Any) -> sa.Column[int]:
    """Credits, in whole millionths."""
    return sa.Column(name, _Number, nullable=False, **options)


def _partial(name: str, *columns: str, where: str) -> sa.Index:
    """An index over the few rows that `where` names. A query must repeat `where` literally, or SQLite ignores it."""
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


UNFINISHED: Final = f"state < {min(TERMINAL).value}"
# This way round: `state > 6` would be taken for a range, which is then sorted, before `state = 7`.
FAILED: Final = f"{State.SUCCEEDED.value} < state"
DOUBTFUL: Final = f"state = {State.OUTCOME_UNKNOWN.value}"
A_STEP: Final = "task_id <> execution_id"
IN_A_SESSION: Final = "session_id <> ''"
ABOUT_A_CALL: Final = "execution_id <> ''"
EXPIRING: Final = "0 < left_micros"

executions = sa.Table(
    "executions",
    metadata,
    _key("execution_id"),
    _key("tenant"),
    _key("principal"),
    _key("user_id"),
    # execution.model.State, by number.
    sa.Column("state", sa.SmallInteger, nullable=False),
    _key("tool"),
    _key("category"),
    # The execution's own id when it is the root of its task.
    _key("task_id"),
    # Empty when there is none; so are the next three.
    _key("parent_execution_id"),
    _key("session_id"),
    _key("agent_id"),
    _key("request_id"),
    _key("trace_id"),
    _key("server_id"),
    sa.Column("epoch", _Number, nullable=False),
    sa.Column("create_time", _Time, nullable=False),
    sa.Column("end_time", _Time),
    # execution.model.Stopped, by number.
    sa.Column("stopped", sa.SmallInteger, nullable=False),
    # A JSON object of texts; null when there are none.
    sa.Column("labels", _Json),
    # Of the payload; what a repeated request id is compared with.
    sa.Column("digest", sa.LargeBinary, nullable=False),
    # Everything that nobody filters by: see rows.py.
    sa.Column("body", sa.LargeBinary, nullable=False),
    # JSON text as it is kept (redacted); null when not kept.
    sa.Column("arguments", sa.LargeBinary),
    sa.Column("result", sa.LargeBinary),
    # Of the audit trail's digests of both; erased with them.
    sa.Column("salt", sa.LargeBinary),
    # What is held for it at most, and what it has cost in the end.
    _micros("hold_micros", server_default=sa.text("0")),
    _micros("cost_micros", server_default=sa.text("0")),
    # Descriptions as artifacts/model.py encodes them; null when there are none. Part of the payload: previews are.
    sa.Column("artifacts", sa.LargeBinary),
    # What only operators are told of a failure; null when there is nothing. Part of the payload: it may quote from it.
    sa.Column("admin_message", sa.Text),
    # get; an admin's list, whose order it is; retention, which goes by the time in the id.
    sa.PrimaryKeyConstraint("execution_id", name="executions_pk"),
    # An operator's list: `tenant = ? ORDER BY execution_id DESC`.
    sa.Index("executions_of_tenant", "tenant", "execution_id"),
    # An agent's list: `tenant = ? AND user_id = ? ORDER BY execution_id DESC`.
    sa.Index("executions_of_user", "tenant", "user_id", "execution_id"),
    # The tree of a task: its steps; the root is the execution whose id is the task's.
    _partial("executions_of_task", "task_id", "execution_id", where=A_STEP),
    # `session_id = ?`; calls outside a session cost nothing.
    _partial("executions_of_session", "session_id", "execution_id", where=IN_A_SESSION),
    # Recovery: what a dead server left behind. Holds only what runs now.
    _partial("executions_unfinished", "server_id", "epoch", where=UNFINISHED),
    # `state = ?` for whatever did not succeed.
    _partial("executions_failed", "tenant", "state", "execution_id", where=FAILED),
    # What look-ups are asked for after their server has died, of all tenants.
    _partial("executions_doubtful", "execution_id", where=DOUBTFUL),
)

request_ids = sa.Table(
    "request_ids",
    metadata,
    _key("tenant"),
    _key("request_id"),
    _key("principal"),
    _key("execution_id"),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    # From then on the key may be claimed anew; 0 when it was given back. The row still says who had it last.
    sa.Column("expire_time", _Time, nullable=False),
    # Claims, and `request_id = ?` in a tenant's list, which does not know the principal.
    sa.PrimaryKeyConstraint("tenant", "request_id", "principal", name="request_ids_pk"),
    sqlite_with_rowid=False,
)

servers = sa.Table(
    "servers",
    metadata,
    _key("server_id"),
    sa.Column("epoch", _Number, nullable=False),
    # Until when the lease holds.
    sa.Column("lease_time", _Time, nullable=False),
    sa.Column("start_time", _Time, nullable=False),
    _key("address"),
    sa.PrimaryKeyConstraint("server_id", name="servers_pk"),
    sqlite_with_rowid=False,
)

stop_orders = sa.Table(
    "stop_orders",
    metadata,
    # What is to be stopped, and the server that runs it: there are only those that wait to be obeyed.
    _key("execution_id"),
    _key("server_id"),
    sa.PrimaryKeyConstraint("execution_id", name="stop_orders_pk"),
    # Asked by every server several times a second.
    sa.Index("stop_orders_of_server", "server_id"),
    sqlite_with_rowid=False,
)

audit_entries = sa.Table(
    "audit_entries",
    metadata,
    _key("chain_id"),
    sa.Column("sequence", _Number, nullable=False),
    sa.Column("time", _Time, nullable=False),
    _key("tenant"),
    _key("kind"),
    _key("principal"),
    _key("user_id"),
    # Empty when the entry is not about an execution.
    _key("execution_id"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("previous", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("chain_id", "sequence", name="audit_entries_pk"),
    # A tenant's list, by time.
    sa.Index("audit_entries_of_tenant", "tenant", "time"),
)

audit_checkpoints = sa.Table(
    "audit_checkpoints",
    metadata,
    _key("chain_id"),
    sa.Column("sequence", _Number, nullable=False),
    sa.Column("time", _Time, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("chain_id", "sequence", name="audit_checkpoints_pk"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    _key("key_id"),
    _key("tenant"),
    _key("principal"),
    _key("user_id"),
    _key("role"),
    # JSON arrays of texts.
    sa.Column("acts_for", _Json, nullable=False),
    sa.Column("scopes", _Json, nullable=False),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    sa.Column("create_time", _Time, nullable=False),
    # Null: never.
    sa.Column("expire_time", _Time),
    sa.Column("revoke_time", _Time),
    _key("label"),
    sa.PrimaryKeyConstraint("key_id", name="api_keys_pk"),
    # `toolwright keys list`, by tenant.
    sa.Index("api_keys_of_tenant", "tenant", "key_id"),
    # What was revoked lately, which every server asks every other second.
    _partial("api_keys_revoked", "revoke_time", where="revoke_time IS NOT NULL"),
)

tool_settings = sa.Table(
    "tool_settings",
    metadata,
    _key("tenant"),
    _key("tool"),
    # Of the last change among all: each is higher than those committed before it.
    sa.Column("revision", _Number, nullable=False),
    sa.Column("update_time", _Time, nullable=False),
    # The principal.
    _key("updater"),
    # What is set, as a JSON object: see tool_settings.py.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("tenant", "tool", name="tool_settings_pk"),
    # What was changed lately, which every server asks when it is told and every other second.
    sa.Index("tool_settings_changed", "revision", unique=True),
)

ledger_accounts = sa.Table(
    "ledger_accounts",
    metadata,
    _key("tenant"),
    # records.ledger.model.Account; a tenant has all of them, or none while credits are off for it.
    _key("account"),
    _micros("balance_micros"),
    # The last transaction that moved it; the highest of a tenant's accounts is its last one.
    sa.Column("last_number", _Number, nullable=False),
    # In this order they are locked, all of a tenant before those of the next.
    sa.PrimaryKeyConstraint("tenant", "account", name="ledger_accounts_pk"),
    sqlite_with_rowid=False,
)

ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    _key("tenant"),
    # Of the transaction, from 1 without gaps within the tenant.
    sa.Column("number", _Number, nullable=False),
    _key("account"),
    _key("kind"),
    _micros("amount_micros"),
    _micros("balance_micros"),
    sa.Column("time", _Time, nullable=False),
    # Empty when there is none; so are the next three.
    _key("execution_id"),
    _key("request_id"),
    _key("user_id"),
    _key("note"),
    # A tenant's list: `tenant = ? ORDER BY number DESC, account`.
    sa.PrimaryKeyConstraint("tenant", "number", "account", name="ledger_entries_pk"),
    # Those of one execution.
    _partial("ledger_entries_of_execution", "execution_id", where=ABOUT_A_CALL),
)

ledger_holds = sa.Table(
    "ledger_holds",
    metadata,
    # Holds that are open; one that is settled has no row any more.
    _key("execution_id"),
    _key("tenant"),
    _key("user_id"),
    _key("task_id"),
    _micros("amount_micros"),
    # 0: credits were off for the tenant, only the task's cost counts it.
    sa.Column("credited", sa.SmallInteger, nullable=False),
    # What it took of grants that expire: a JSON array of pairs.
    _key("parts"),
    sa.Column("time", _Time, nullable=False),
    sa.PrimaryKeyConstraint("execution_id", name="ledger_holds_pk"),
)

ledger_grants = sa.Table(
    "ledger_grants",
    metadata,
    _key("tenant"),
    _key("request_id"),
    sa.Column("number", _Number, nullable=False),
    _micros("amount_micros"),
    _micros("balance_micros"),
    sa.Column("time", _Time, nullable=False),
    _key("user_id"),
    _key("note"),
    # Null: never.
    sa.Column("expire_time", _Time),
    # What will expire; 0 for a grant that never does.
    _micros("left_micros"),
    sa.PrimaryKeyConstraint("tenant", "request_id", name="ledger_grants_pk"),
    # What is looked at before every hold of the tenant.
    _partial("ledger_grants_expiring", "tenant", where=EXPIRING),
)

task_costs = sa.Table(
    "task_costs",
    metadata,
    _key("tenant"),
    _key("user_id"),
    _key("task_id"),
    # What its calls have cost, and what is held for those that run.
    _micros("cost_micros"),
    sa.Column("update_time", _Time, nullable=False),
    sa.PrimaryKeyConstraint("tenant", "user_id", "task_id", name="task_costs_pk"),
    # Retention.
    sa.Index("task_costs_by_time", "update_time"),
    sqlite_with_rowid=False,
)


def _usage(name: str, *keys: str) -> sa.Table:
    """Sums of executions that have ended, by the hour in which they were made and by these keys; see rollups.py."""
    return sa.Table(
        name,
        metadata,
        # Since the epoch. First, so that what is added to lies together.
        sa.Column("hour", sa.Integer, nullable=False),
        *(_key(key) for key in keys),
        sa.Column("shard", sa.SmallInteger, nullable=False),
        *(sa.Column(count, _Number, nullable=False) for count in COUNTS),
        # How many calls are in each bucket of records/usage/latency.py: a JSON object.
        sa.Column("latencies", _Json, nullable=False),
        sa.PrimaryKeyConstraint("hour", *keys, "shard", name=f"{name}_pk"),
        sqlite_with_rowid=False,
    )


usage_by_tool = _usage("usage_by_tool", "tenant", "tool", "category")
# Of a user: `hour IN (...) AND tenant = ? AND user_id = ?`.
usage_by_user = _usage("usage_by_user", "tenant", "user_id", "agent_id", "tool", "category")

facts = sa.Table(
    "facts",
    metadata,
    # What a database knows about itself, such as which audit key signs it: a name and a value each.
    _key("name"),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("name", name="facts_pk"),
)
