"""The LedgerStore on SQLite or PostgreSQL. Grants go through the writer; whatever is shown is read in one statement."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.identity import Caller
from toolwright_server.records.audit.model import Entry as AuditEntry
from toolwright_server.records.audit.model import Fact
from toolwright_server.records.audit.model import Kind as AuditKind
from toolwright_server.records.ledger.model import Account, Balance, Entry, Grant, Moved
from toolwright_server.records.ledger.refusals import denied
from toolwright_server.records.ledger.report import PROBLEM_LIMIT, Report
from toolwright_server.records.ledger.store import LedgerQuery
from toolwright_server.stores.sql import ledger_check
from toolwright_server.stores.sql.change import Change, Denied, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import ledger_accounts, ledger_entries, ledger_grants
from toolwright_server.stores.sql.writer import Writer

_A: Final = ledger_accounts.c
_E: Final = ledger_entries.c
_G: Final = ledger_grants.c

# What has expired and was not moved yet: that happens with the tenant's next move.
_LAPSED: Final = (
    sa.select(sa.func.coalesce(sa.func.sum(_G.left_micros), 0))
    .where(_G.tenant == sa.bindparam("tenant"), _G.expire_time <= sa.bindparam("now"))
    .scalar_subquery()
)
_BALANCE: Final = sa.select(_A.account, _A.balance_micros, _LAPSED).where(_A.tenant == sa.bindparam("tenant"))


class SqlLedger:
    """See the module. Not `audited`: for a server without an audit trail. `clock`: seconds since the epoch."""

    def __init__(
        self, database: Database, writer: Writer, *, audited: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._writer = writer
        self._audited = audited
        self._clock = clock

    async def grant(self, grant: Grant, by: Caller) -> Moved:
        entries = (grant_entry(grant, by, self._clock()),) if self._audited else ()
        change = Change(moves=(grant,), entries=entries)
        try:
            await self._writer.submit(change)
        except Denied as error:
            raise denied(error.denial) from error
        except Unkept as error:
            raise unavailable(error) from error
        assert change.moved is not None
        return change.moved

    async def balance(self, tenant: str) -> Balance:
        rows = await self._rows(_BALANCE, {"tenant": tenant, "now": self._clock()})
        if not rows:
            return Balance()
        found = {row[0]: int(row[1]) for row in rows}
        available = max(0, found[Account.AVAILABLE] - int(rows[0][2]))
        return Balance(enabled=True, available_micros=available, held_micros=found[Account.HELD])

    async def list(self, query: LedgerQuery) -> Sequence[Entry]:
        statement = sa.select(ledger_entries).where(_E.tenant == query.tenant)
        if query.execution_id:
            statement = statement.where(_E.execution_id == query.execution_id)
        if query.before is not None:
            number, account = query.before
            statement = statement.where(sa.or_(_E.number < number, sa.and_(_E.number == number, _E.account > account)))
        ordered = statement.order_by(_E.number.desc(), _E.account).limit(query.limit)
        return [Entry(*row) for row in await self._rows(ordered)]

    async def check(self, tenant: str | None) -> Report:
        """Tenant by tenant, each as it is at one moment: nothing is moved between them."""
        found = ledger_check.Findings()
        for each in await self._tenants() if tenant is None else [tenant]:
            found.add(each, await self._rows(ledger_check.statement(each)))
        return found.report(PROBLEM_LIMIT)

    async def _tenants(self) -> Sequence[str]:
        return [row[0] for row in await self._rows(ledger_check.TENANTS)]

    async def _rows(self, query: Any, parameters: dict[str, Any] | None = None) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        try:
            async with self._database.reading() as connection:
                return (await connection.execute(query, parameters)).all()
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error


def grant_entry(grant: Grant, by: Caller, now: float) -> AuditEntry:
    """What the audit trail of the tenant says of a grant."""
    facts: dict[str, Fact] = {
        "action": "granted",
        "amount_micros": grant.micros,
        "request_id": grant.request_id,
        "by_tenant": by.tenant,
    }
    if grant.expire_time is not None:
        facts["expire_time"] = int(grant.expire_time)
    if grant.note:
        facts["note"] = grant.note
    return AuditEntry(AuditKind.CREDITS, grant.tenant, by.principal, by.user, now, facts=facts)
