"""The books under any sequence of moves: every transaction sums to zero, nothing is ever overdrawn, and what a plain
model says may be spent is what may be spent.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.errors import Reason
from toolwright_server.records.ledger.books import Books
from toolwright_server.records.ledger.model import Account, Denial, Grant, Hold, Move, Settle
from toolwright_server.records.ledger.thresholds import passed

TENANTS = ("acme", "zenith")
LIMIT = 250
AMOUNTS = st.integers(1, 120)

GRANTS = st.builds(
    Grant,
    st.sampled_from(TENANTS),
    st.sampled_from(["g-1", "g-2", "g-3", "g-4"]),
    AMOUNTS,
    st.just("olga"),
    st.none() | st.integers(1, 40).map(float),
)
HOLDS = st.builds(
    Hold,
    st.sampled_from([f"x-{number}" for number in range(8)]),
    st.sampled_from(TENANTS),
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["t-1", "t-2"]),
    AMOUNTS,
    st.none() | st.just(LIMIT),
    st.booleans(),
)
SETTLES = st.builds(
    Settle,
    st.sampled_from([f"x-{number}" for number in range(8)]),
    st.sampled_from(TENANTS),
    st.integers(-5, 150),
)
STEPS = st.lists(st.tuples(st.integers(0, 8), st.one_of(GRANTS, HOLDS, HOLDS, SETTLES, SETTLES)), max_size=60)


@dataclass
class Model:
    """What a person would write down: what each grant has left, by when it goes, and who holds how much of which."""

    lots: dict[str, dict[str, list[Any]]] = field(default_factory=lambda: defaultdict(dict))
    holds: dict[str, Any] = field(default_factory=dict[str, Any])
    tasks: dict[Any, int] = field(default_factory=lambda: defaultdict(int))

    def available(self, tenant: str) -> int:
        return sum(left for left, _ in self.lots[tenant].values())

    def expire(self, tenant: str, now: float) -> None:
        for lot in self.lots[tenant].values():
            if lot[1] is not None and lot[1] <= now:
                lot[0] = 0

    def make(self, move: Move, now: float) -> bool:
        """Whether the move is made."""
        if isinstance(move, Grant):
            return self._grant(move, now)
        return self._hold(move, now) if isinstance(move, Hold) else self._settle(move, now)

    def _grant(self, move: Grant, now: float) -> bool:
        if move.request_id in self.lots[move.tenant]:
            return True
        if move.expire_time is not None and move.expire_time <= now:
            return False
        self.expire(move.tenant, now)
        self.lots[move.tenant][move.request_id] = [move.micros, move.expire_time]
        return True

    def _hold(self, move: Hold, now: float) -> bool:
        if move.execution_id in self.holds:
            return True
        key = (move.tenant, move.user, move.task_id)
        if move.task_limit_micros is not None and self.tasks[key] + move.micros > move.task_limit_micros:
            return False
        parts: list[tuple[str, int]] = []
        lots = self.lots[move.tenant]
        if lots or move.required:
            self.expire(move.tenant, now)
            if self.available(move.tenant) < move.micros:
                return False
            needed = move.micros
            for name in sorted(lots, key=lambda name: (lots[name][1] is None, lots[name][1] or 0.0, name)):
                part = min(needed, lots[name][0])
                lots[name][0] -= part
                needed -= part
                parts.append((name, part))
        self.holds[move.execution_id] = (key, move.micros, parts)
        self.tasks[key] += move.micros
        return True

    def _settle(self, move: Settle, now: float) -> bool:
        if move.execution_id not in self.holds:
            return True
        key, micros, parts = self.holds.pop(move.execution_id)
        charge = min(max(move.charge_micros, 0), micros)
        self.tasks[key] += charge - micros
        for name, part in parts:
            used = min(charge, part)
            charge -= used
            self.lots[key[0]][name][0] += part - used
        if parts:
            self.expire(key[0], now)
        return True


def check(books: Books, model: Model) -> None:
    for tenant in TENANTS:
        balances = {account: books.balances.get((tenant, account), 0) for account in Account}
        assert sum(balances.values()) == 0
        assert all(balance >= 0 for account, balance in balances.items() if account is not Account.ISSUED)
        assert balances[Account.AVAILABLE] == model.available(tenant)
        assert balances[Account.HELD] == sum(
            held.micros for held in books.holds.values() if held.credited and held.tenant == tenant
        )
    transactions: dict[Any, int] = defaultdict(int)
    sums: dict[Any, int] = defaultdict(int)
    for entry in books.entries:
        assert entry.amount_micros
        transactions[entry.tenant, entry.transaction] += entry.amount_micros
        sums[entry.tenant, entry.account] += entry.amount_micros
        assert entry.balance_micros == sums[entry.tenant, entry.account]
    assert not any(transactions.values())
    for tenant, number in books.numbers.items():
        assert [each for name, each in transactions if name == tenant] == list(range(1, number + 1))
    for key, cost in books.tasks.items():
        assert cost == model.tasks[key] >= 0


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_sequence_of_moves_sums_to_zero_and_spends_nothing_twice(steps: list[tuple[int, Move]]) -> None:
    books, model, now = Books(), Model(), 0.0
    for seconds, move in steps:
        now += seconds
        made = books.make(move, now)
        assert isinstance(made, Denial) is not model.make(move, now)
        check(books, model)


def test_a_denial_says_what_was_missing() -> None:
    books = Books()
    books.make(Grant("acme", "g", 10, "olga"), 0.0)
    assert books.make(Hold("x", "acme", "ann", "t", 11), 0.0) == Denial(
        Reason.INSUFFICIENT_CREDITS, "acme", used=0, limit=10, asked=11
    )
    assert books.make(Hold("x", "acme", "ann", "t", 11, 10), 0.0) == Denial(
        Reason.BUDGET_EXCEEDED, "t", used=0, limit=10, asked=11
    )


def test_where_credits_are_required_a_tenant_without_a_grant_has_none() -> None:
    denied = Books().make(Hold("x", "acme", "ann", "t", 1, required=True), 0.0)
    assert isinstance(denied, Denial)
    assert denied.reason is Reason.INSUFFICIENT_CREDITS


@pytest.mark.parametrize(
    ("before", "after", "threshold"),
    [(0, 79, None), (0, 80, 80), (79, 94, 80), (80, 94, None), (94, 95, 95), (0, 100, 95), (95, 100, None)],
)
def test_a_threshold_is_passed_once(before: int, after: int, threshold: int | None) -> None:
    assert passed(before, after, 100) == threshold
