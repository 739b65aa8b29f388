"""Verifies the books of one tenant in one statement, so that all of it is seen at one moment."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from toolwright_server.execution.model import TERMINAL, State
from toolwright_server.records.ledger.model import Account
from toolwright_server.records.ledger.report import PROBLEM_LIMIT, Fault, Problem, Report
from toolwright_server.stores.sql.tables import executions, ledger_accounts, ledger_entries, ledger_holds

_A: Final = ledger_accounts.c
_E: Final = ledger_entries.c
_H: Final = ledger_holds.c
_X: Final = executions.c

_Rows = sa.Select[*tuple[Any, ...]]

# Also those that have nothing but holds or entries: that would be wrong.
TENANTS: Final = sa.union(sa.select(_A.tenant), sa.select(_E.tenant), sa.select(_H.tenant)).order_by("tenant")

_SETTLED: Final = sorted(state.value for state in TERMINAL - {State.OUTCOME_UNKNOWN})
_COUNTS: Final = ("tenants", "transactions", "entries", "holds", "unknown_holds", "held_micros")


class Findings:
    """What was found in all tenants so far."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._problems: list[Problem] = []

    def add(self, tenant: str, rows: Sequence[Sequence[Any]]) -> None:
        """The rows of the statement of one tenant."""
        for what, place, number in rows:
            if what in self._counts:
                self._counts[what] += int(number)
            else:
                self._problems.append(Problem(tenant, Fault(what), place, int(number)))

    def report(self, limit: int) -> Report:
        """All of it, with the first `limit` problems."""
        return Report(**self._counts, problems=self._problems[:limit])


def statement(tenant: str) -> sa.CompoundSelect[Any]:
    """Rows of what, place and number: a count, or a fault."""
    return sa.union_all(*_counts(tenant), *(_few(part) for part in _faults(tenant)))


def _counts(tenant: str) -> list[_Rows]:
    of_tenant, held = _E.tenant == tenant, _H.tenant == tenant
    unknown = sa.exists().where(_X.execution_id == _H.execution_id, _X.state == State.OUTCOME_UNKNOWN.value)
    return [
        _count("tenants", sa.select(sa.func.count(sa.distinct(_A.tenant))).where(_A.tenant == tenant)),
        _count("transactions", sa.select(sa.func.count(sa.distinct(_E.number))).where(of_tenant)),
        _count("entries", sa.select(sa.func.count()).select_from(ledger_entries).where(of_tenant)),
        _count("holds", sa.select(sa.func.count()).select_from(ledger_holds).where(held)),
        _count("unknown_holds", sa.select(sa.func.count()).select_from(ledger_holds).where(held, unknown)),
        _count("held_micros", sa.select(_sum(_H.amount_micros)).where(held, _H.credited == 1)),
    ]


def _faults(tenant: str) -> list[_Rows]:
    of_tenant = _E.tenant == tenant
    total = _sum(_E.amount_micros)
    unbalanced = (
        sa.select(_what(Fault.UNBALANCED), sa.cast(_E.number, sa.Text), total)
        .where(of_tenant)
        .group_by(_E.number)
        .having(sa.func.sum(_E.amount_micros) != 0)
    )
    last = sa.select(sa.func.coalesce(sa.func.max(_A.last_number), 0)).where(_A.tenant == tenant).scalar_subquery()
    count = sa.select(sa.func.count(sa.distinct(_E.number))).where(of_tenant).scalar_subquery()
    missing = sa.select(_what(Fault.MISSING), sa.literal("", sa.Text), sa.cast(last - count, sa.BigInteger)).where(
        last != count
    )
    orphan = (
        sa.select(_what(Fault.ORPHAN), _H.execution_id, _H.amount_micros)
        .outerjoin(executions, _X.execution_id == _H.execution_id)
        .where(_H.tenant == tenant, sa.or_(_X.state.is_(None), _X.state.in_(_SETTLED)))
    )
    negative = sa.select(_what(Fault.NEGATIVE), _A.account, _A.balance_micros).where(
        _A.tenant == tenant, _A.balance_micros < 0, _A.account != Account.ISSUED.value
    )
    return [unbalanced, missing, *_balances(tenant), negative, _held(tenant), orphan]


def _balances(tenant: str) -> list[_Rows]:
    """Accounts that are not the sum of their entries, and entries that have no account."""
    sums = (
        sa.select(_E.account, _sum(_E.amount_micros).label("total"))
        .where(_E.tenant == tenant)
        .group_by(_E.account)
        .subquery()
    )
    away = _A.balance_micros - sa.func.coalesce(sums.c.total, 0)
    accounts = (
        sa.select(_what(Fault.BALANCE), _A.account, sa.cast(away, sa.BigInteger))
        .outerjoin(sums, sums.c.account == _A.account)
        .where(_A.tenant == tenant, away != 0)
    )
    without = (
        sa.select(_what(Fault.BALANCE), sums.c.account, sa.cast(-sums.c.total, sa.BigInteger))
        .outerjoin(ledger_accounts, sa.and_(_A.account == sums.c.account, _A.tenant == tenant))
        .where(_A.tenant.is_(None))
    )
    return [accounts, without]


def _held(tenant: str) -> _Rows:
    balance = (
        sa.select(sa.func.coalesce(sa.func.sum(_A.balance_micros), 0))
        .where(_A.tenant == tenant, _A.account == Account.HELD.value)
        .scalar_subquery()
    )
    holds = sa.select(_sum(_H.amount_micros)).where(_H.tenant == tenant, _H.credited == 1).scalar_subquery()
    return sa.select(
        _what(Fault.HELD), sa.literal(Account.HELD.value, sa.Text), sa.cast(balance - holds, sa.BigInteger)
    ).where(balance != holds)


def _what(what: str) -> sa.ColumnElement[str]:
    return sa.literal(str(what), sa.Text)


def _sum(column: sa.Column[int]) -> sa.ColumnElement[int]:
    # PostgreSQL sums into a number without end.
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger)


def _count(what: str, query: _Rows) -> _Rows:
    return sa.select(_what(what), sa.literal("", sa.Text), sa.cast(query.scalar_subquery(), sa.BigInteger))


def _few(part: _Rows) -> _Rows:
    return sa.select(part.limit(PROBLEM_LIMIT).subquery())
