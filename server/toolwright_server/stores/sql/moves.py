"""Makes the moves of one group of the writer: loads what they are about, locked, has the books make them, writes it.

Locks are taken in one order by everybody: holds, tasks, accounts, each by its key. What a tenant's grants have left is
guarded by its accounts. The last thing in a group but its audit entries, so that rows are locked for a short while, and
always after those of executions.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from toolwright_server.records.ledger.books import Books, Granted, Held, TaskKey
from toolwright_server.records.ledger.model import Account, Denial, Entry, Grant, Hold, Kind, Move, Moved, Settle
from toolwright_server.stores.sql import group
from toolwright_server.stores.sql.group import Pending
from toolwright_server.stores.sql.tables import (
    EXPIRING,
    executions,
    ledger_accounts,
    ledger_entries,
    ledger_grants,
    ledger_holds,
    request_ids,
    task_costs,
)

_A: Final = ledger_accounts.c
_G: Final = ledger_grants.c
_H: Final = ledger_holds.c
_R: Final = request_ids.c
_T: Final = task_costs.c

_HOLDS: Final = (
    sa.select(ledger_holds)
    .where(_H.execution_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(_H.execution_id)
    .with_for_update()
)
_ACCOUNTS: Final = (
    sa.select(_A.tenant, _A.account, _A.balance_micros, _A.last_number)
    .where(_A.tenant.in_(sa.bindparam("tenants", expanding=True)))
    .order_by(_A.tenant, _A.account)
    .with_for_update()
)
_EXPIRING: Final = sa.select(ledger_grants).where(
    sa.text(EXPIRING), _G.tenant.in_(sa.bindparam("tenants", expanding=True))
)
_PARTS_OF: Final = sa.select(ledger_grants).where(
    _G.tenant.in_(sa.bindparam("tenants", expanding=True)), _G.request_id.in_(sa.bindparam("names", expanding=True))
)
_MOVE: Final = (
    sa.update(ledger_accounts)
    .where(_A.tenant == sa.bindparam("tenant_"), _A.account == sa.bindparam("account_"))
    .values(balance_micros=sa.bindparam("balance"), last_number=sa.bindparam("last"))
)
_COUNT: Final = (
    sa.update(task_costs)
    .where(
        _T.tenant == sa.bindparam("tenant_"),
        _T.user_id == sa.bindparam("user_"),
        _T.task_id == sa.bindparam("task_"),
    )
    .values(cost_micros=sa.bindparam("cost"))
)
_CLOSE: Final = sa.delete(ledger_holds).where(_H.execution_id.in_(sa.bindparam("ids", expanding=True)))
_LEAVE: Final = (
    sa.update(ledger_grants)
    .where(_G.tenant == sa.bindparam("tenant_"), _G.request_id == sa.bindparam("name_"))
    .values(left_micros=sa.bindparam("left"))
)
_GONE: Final = sa.delete(executions).where(executions.c.execution_id.in_(sa.bindparam("ids", expanding=True)))
_UNCLAIM: Final = sa.delete(request_ids).where(
    _R.tenant == sa.bindparam("tenant_"),
    _R.request_id == sa.bindparam("request_"),
    _R.principal == sa.bindparam("principal_"),
    _R.execution_id == sa.bindparam("id_"),
)
_ENTRY_COLUMNS: Final = tuple(column.name for column in ledger_entries.columns)


def moved(
    connection: sa.Connection, items: Sequence[Pending], moves: Sequence[tuple[Pending, Move]], now: float
) -> None:
    """Make the moves of a group; what was written for changes that are denied is taken out again."""
    denied = group.made(moves, make(connection, [move for _, move in moves], now))
    if not denied:
        return
    ids, claims = group.gone(items, denied)
    if ids:
        connection.execute(_GONE, {"ids": sorted(ids)})
    if claims:
        rows = [
            {"tenant_": claim[0], "request_": claim[1], "principal_": claim[2], "id_": claim[3]}
            for claim in sorted(claims)
        ]
        connection.execute(_UNCLAIM, rows)


def make(connection: sa.Connection, moves: Sequence[Move], now: float) -> list[Moved | Denial]:
    """What became of each move, in their order. `now`: seconds since the epoch."""
    books = Books()
    _load(connection, books, moves, now)
    found_grants = set(books.grants)
    made = [books.make(move, now) for move in moves]
    _write(connection, books, found_grants)
    return made


def _load(connection: sa.Connection, books: Books, moves: Sequence[Move], now: float) -> None:
    ids = sorted({move.execution_id for move in moves if not isinstance(move, Grant)})
    if ids:
        for row in connection.execute(_HOLDS, {"ids": ids}):
            books.holds[row.execution_id] = _held(row)
    tasks = {(move.tenant, move.user, move.task_id) for move in moves if isinstance(move, Hold)}
    tasks.update(held.task for held in books.holds.values())
    if tasks:
        books.tasks.update(_locked_tasks(connection, sorted(tasks), now))
    tenants = {move.tenant for move in moves if not isinstance(move, Settle)}
    tenants.update(held.tenant for held in books.holds.values() if held.credited)
    if not tenants:
        return
    opening = sorted({move.tenant for move in moves if isinstance(move, Grant)})
    if opening:
        _open(connection, opening)
    for row in connection.execute(_ACCOUNTS, {"tenants": sorted(tenants)}):
        books.balances[row.tenant, Account(row.account)] = row.balance_micros
        books.numbers[row.tenant] = max(books.numbers.get(row.tenant, 0), row.last_number)
    if books.numbers:
        _load_grants(connection, books, moves)


def _load_grants(connection: sa.Connection, books: Books, moves: Sequence[Move]) -> None:
    """What may expire or be spent, what is to be given back to, and what was granted under the same names."""
    tenants = sorted(books.numbers)
    rows: list[Any] = list(connection.execute(_EXPIRING, {"tenants": tenants}))
    names = {name for held in books.holds.values() for name, _ in held.parts}
    names.update(move.request_id for move in moves if isinstance(move, Grant))
    if names:
        rows += connection.execute(_PARTS_OF, {"tenants": tenants, "names": sorted(names)})
    for row in rows:
        books.grants[row.tenant, row.request_id] = _granted(row)


def _locked_tasks(connection: sa.Connection, keys: Sequence[TaskKey], now: float) -> dict[TaskKey, int]:
    """What each task has cost; its row is made if there is none, and locked in any case."""
    insert = _insert(connection, task_costs)
    rows = [
        {"tenant": key[0], "user_id": key[1], "task_id": key[2], "cost_micros": 0, "update_time": now} for key in keys
    ]
    statement = insert.on_conflict_do_update(
        index_elements=[_T.tenant, _T.user_id, _T.task_id], set_={"update_time": insert.excluded.update_time}
    ).returning(_T.tenant, _T.user_id, _T.task_id, _T.cost_micros)
    return {(row.tenant, row.user_id, row.task_id): row.cost_micros for row in connection.execute(statement, rows)}


def _open(connection: sa.Connection, tenants: Iterable[str]) -> None:
    """Make the accounts of tenants that have none."""
    rows = [
        {"tenant": tenant, "account": account.value, "balance_micros": 0, "last_number": 0}
        for tenant in tenants
        for account in sorted(Account)
    ]
    connection.execute(_insert(connection, ledger_accounts).on_conflict_do_nothing(), rows)


def _write(connection: sa.Connection, books: Books, found_grants: set[tuple[str, str]]) -> None:
    if books.entries:
        rows = [dict(zip(_ENTRY_COLUMNS, entry, strict=True)) for entry in books.entries]
        connection.execute(sa.insert(ledger_entries), rows)
        connection.execute(_MOVE, _moved(books))
    if books.opened:
        connection.execute(sa.insert(ledger_holds), [_hold_row(books.holds[key]) for key in sorted(books.opened)])
    if books.closed:
        connection.execute(_CLOSE, {"ids": sorted(books.closed)})
    if books.changed_tasks:
        connection.execute(
            _COUNT,
            [
                {"tenant_": key[0], "user_": key[1], "task_": key[2], "cost": books.tasks[key]}
                for key in sorted(books.changed_tasks)
            ],
        )
    made = [key for key in sorted(books.changed_grants) if key not in found_grants]
    if made:
        connection.execute(sa.insert(ledger_grants), [_grant_row(books.grants[key]) for key in made])
    left = [key for key in sorted(books.changed_grants) if key in found_grants]
    if left:
        connection.execute(
            _LEAVE,
            [{"tenant_": key[0], "name_": key[1], "left": books.grants[key].left_micros} for key in left],
        )


def _moved(books: Books) -> list[Mapping[str, Any]]:
    """Accounts that were moved: the balance of each after its last entry."""
    last = {(entry.tenant, entry.account): entry for entry in books.entries}
    return [
        {"tenant_": key[0], "account_": key[1], "balance": last[key].balance_micros, "last": last[key].transaction}
        for key in sorted(last)
    ]


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that may say what to do about rows that are there."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _held(row: Any) -> Held:
    parts = tuple((name, micros) for name, micros in orjson.loads(row.parts))
    return Held(
        row.execution_id,
        row.tenant,
        row.user_id,
        row.task_id,
        row.amount_micros,
        bool(row.credited),
        parts,
        row.time,
    )


def _hold_row(held: Held) -> dict[str, Any]:
    return {
        "execution_id": held.execution_id,
        "tenant": held.tenant,
        "user_id": held.user,
        "task_id": held.task_id,
        "amount_micros": held.micros,
        "credited": int(held.credited),
        "parts": orjson.dumps(held.parts).decode(),
        "time": held.time,
    }


def _granted(row: Any) -> Granted:
    entry = Entry(
        row.tenant,
        row.number,
        Account.AVAILABLE,
        Kind.GRANT,
        row.amount_micros,
        row.balance_micros,
        row.time,
        request_id=row.request_id,
        user=row.user_id,
        note=row.note,
    )
    return Granted(entry, row.expire_time, row.left_micros)


def _grant_row(granted: Granted) -> dict[str, Any]:
    entry = granted.entry
    return {
        "tenant": entry.tenant,
        "request_id": entry.request_id,
        "number": entry.transaction,
        "amount_micros": entry.amount_micros,
        "balance_micros": entry.balance_micros,
        "time": entry.time,
        "user_id": entry.user,
        "note": entry.note,
        "expire_time": granted.expire_time,
        "left_micros": granted.left_micros,
    }
