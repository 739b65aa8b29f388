"""Credits in memory, for servers that keep nothing beyond their own life. Entries are bounded; no sum is lost."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from toolwright_server.identity import Caller
from toolwright_server.records.ledger.books import Books, TaskKey
from toolwright_server.records.ledger.model import Account, Balance, Denial, Entry, Grant, Move, Moved
from toolwright_server.records.ledger.refusals import denied
from toolwright_server.records.ledger.report import PROBLEM_LIMIT, Fault, Problem, Report
from toolwright_server.records.ledger.store import LedgerQuery

ENTRIES_KEPT: Final = 100_000
TASKS_KEPT: Final = 100_000


class MemoryLedger:
    """A LedgerStore of one server, and what its executions' holds go through. `clock`: seconds since the epoch.

    `stands(execution_id)` says whether a hold may be open: True while the execution runs, None when its outcome is
    unknown, else False.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        stands: Callable[[str], bool | None] = lambda _: True,
        entries_kept: int = ENTRIES_KEPT,
        tasks_kept: int = TASKS_KEPT,
    ) -> None:
        self.stands = stands
        self._clock = clock
        self._books = Books()
        self._entries: deque[Entry] = deque()
        self._entries_kept = entries_kept
        self._tasks_kept = tasks_kept
        # What forgotten entries came to, and the last transaction that was forgotten, of each tenant.
        self._forgotten: dict[tuple[str, str], int] = {}
        self._forgotten_until: dict[str, int] = {}

    def make(self, move: Move) -> Moved:
        """Make one move. Raises BUDGET_EXCEEDED, INSUFFICIENT_CREDITS or INVALID_ARGUMENTS when it is denied."""
        made = self._books.make(move, self._clock())
        self._entries += self._books.entries
        touched = tuple(self._books.changed_tasks)
        self._books.settled()
        self._forget(touched)
        if isinstance(made, Denial):
            raise denied(made)
        return made

    async def grant(self, grant: Grant, by: Caller) -> Moved:
        del by
        return self.make(grant)

    async def balance(self, tenant: str) -> Balance:
        books, now = self._books, self._clock()
        if tenant not in books.numbers:
            return Balance()
        lapsed = sum(
            granted.left_micros
            for key, granted in books.grants.items()
            if key[0] == tenant and granted.expire_time is not None and granted.expire_time <= now
        )
        available = books.balances.get((tenant, Account.AVAILABLE), 0) - lapsed
        return Balance(
            enabled=True, available_micros=available, held_micros=books.balances.get((tenant, Account.HELD), 0)
        )

    async def list(self, query: LedgerQuery) -> Sequence[Entry]:
        found = [
            entry
            for entry in self._entries
            if entry.tenant == query.tenant and query.execution_id in {"", entry.execution_id}
        ]
        found.sort(key=lambda entry: (-entry.transaction, entry.account))
        before = query.before
        behind = (
            entry for entry in found if before is None or (-entry.transaction, entry.account) > (-before[0], before[1])
        )
        return list(islice(behind, query.limit))

    async def check(self, tenant: str | None) -> Report:
        books = self._books
        tenants = [each for each in sorted(books.numbers) if tenant in {None, each}]
        entries = [entry for entry in self._entries if tenant in {None, entry.tenant}]
        holds = [held for held in books.holds.values() if tenant in {None, held.tenant}]
        problems = [
            Problem(held.tenant, Fault.ORPHAN, held.execution_id, held.micros)
            for held in holds
            if self.stands(held.execution_id) is False
        ]
        for each in tenants:
            problems += self._problems(each, [entry for entry in entries if entry.tenant == each])
        return Report(
            tenants=len(tenants),
            transactions=len({(entry.tenant, entry.transaction) for entry in entries}),
            entries=len(entries),
            holds=len(holds),
            unknown_holds=sum(self.stands(held.execution_id) is None for held in holds),
            held_micros=sum(held.micros for held in holds if held.credited),
            problems=problems[:PROBLEM_LIMIT],
        )

    def _problems(self, tenant: str, entries: Sequence[Entry]) -> Sequence[Problem]:
        transactions: dict[int, int] = {}
        sums = {account.value: self._forgotten.get((tenant, account.value), 0) for account in Account}
        for entry in entries:
            transactions[entry.transaction] = transactions.get(entry.transaction, 0) + entry.amount_micros
            sums[entry.account] += entry.amount_micros
        found = [Problem(tenant, Fault.UNBALANCED, str(each), total) for each, total in transactions.items() if total]
        missing = self._books.numbers[tenant] - self._forgotten_until.get(tenant, 0) - len(transactions)
        if missing:
            found.append(Problem(tenant, Fault.MISSING, "", missing))
        for account in Account:
            balance = self._books.balances.get((tenant, account), 0)
            if balance != sums[account.value]:
                found.append(Problem(tenant, Fault.BALANCE, account.value, balance - sums[account.value]))
            if balance < 0 and account is not Account.ISSUED:
                found.append(Problem(tenant, Fault.NEGATIVE, account.value, balance))
        held = sum(hold.micros for hold in self._books.holds.values() if hold.credited and hold.tenant == tenant)
        away = self._books.balances.get((tenant, Account.HELD), 0) - held
        return [*found, Problem(tenant, Fault.HELD, Account.HELD.value, away)] if away else found

    def _forget(self, touched: Sequence[TaskKey]) -> None:
        while len(self._entries) > self._entries_kept:
            # A transaction goes as a whole: its entries follow each other.
            number, tenant = self._entries[0].transaction, self._entries[0].tenant
            while self._entries and (self._entries[0].transaction, self._entries[0].tenant) == (number, tenant):
                gone = self._entries.popleft()
                key = (tenant, gone.account)
                self._forgotten[key] = self._forgotten.get(key, 0) + gone.amount_micros
            self._forgotten_until[tenant] = number
        tasks = self._books.tasks
        for key in touched:
            # In the order in which they were used last.
            tasks[key] = tasks.pop(key)
        while len(tasks) > self._tasks_kept:
            del tasks[next(iter(tasks))]
