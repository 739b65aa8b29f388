"""The arithmetic of the ledger: what each move does to accounts, holds, grants and tasks. Keeps nothing durably.

A store loads what the moves of one commit are about, has them made one after the other, and writes what changed.
Within one tenant nobody else may change anything meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from toolwright_server.errors import Reason
from toolwright_server.records.ledger.model import (
    MOST_IN_ALL,
    Account,
    Denial,
    Entry,
    Grant,
    Hold,
    Kind,
    Move,
    Moved,
    Settle,
)

# Tenant, user, task: a task's name is its caller's choice, so another user's is another task.
TaskKey = tuple[str, str, str]
GrantKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """An open hold. Not `credited`: credits were off, so only the task's cost counts it.

    `parts` are what it took of grants that expire, soonest first; the rest is of those that never do.
    """

    execution_id: str
    tenant: str
    user: str
    task_id: str
    micros: int
    credited: bool
    parts: tuple[tuple[str, int], ...]
    time: float

    @property
    def task(self) -> TaskKey:
        """The task that it counts for."""
        return self.tenant, self.user, self.task_id


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant, and what is left of it that will expire: 0 for one that never does."""

    entry: Entry
    expire_time: float | None
    left_micros: int


@dataclass(slots=True)
class Books:
    """See the module. Whatever was loaded lies in the dicts; `entries`, and the sets of keys, say what changed."""

    balances: dict[tuple[str, Account], int] = field(default_factory=dict[tuple[str, Account], int])
    # The number of the last transaction of each tenant that has accounts.
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    holds: dict[str, Held] = field(default_factory=dict[str, Held])
    grants: dict[GrantKey, Granted] = field(default_factory=dict[GrantKey, Granted])
    tasks: dict[TaskKey, int] = field(default_factory=dict[TaskKey, int])
    entries: list[Entry] = field(default_factory=list[Entry])
    opened: set[str] = field(default_factory=set[str])
    closed: set[str] = field(default_factory=set[str])
    changed_grants: set[GrantKey] = field(default_factory=set[GrantKey])
    changed_tasks: set[TaskKey] = field(default_factory=set[TaskKey])

    def make(self, move: Move, now: float) -> Moved | Denial:
        """Make one move at the time `now`, all of it or nothing; what has expired by then goes first."""
        if isinstance(move, Hold):
            return self._hold(move, now)
        if isinstance(move, Settle):
            return self._settle(move, now)
        return self._grant(move, now)

    def settled(self) -> None:
        """What changed was written: nothing has changed since."""
        self.entries.clear()
        for changes in (self.opened, self.closed, self.changed_grants, self.changed_tasks):
            changes.clear()

    def _hold(self, move: Hold, now: float) -> Moved | Denial:
        key = (move.tenant, move.user, move.task_id)
        used = self.tasks.get(key, 0)
        if move.execution_id in self.holds:
            return Moved(self._balance(move.tenant), used, repeated=True)
        if move.task_limit_micros is not None and used + move.micros > move.task_limit_micros:
            return Denial(Reason.BUDGET_EXCEEDED, move.task_id, used, move.task_limit_micros, move.micros)
        credited = move.tenant in self.numbers
        parts: tuple[tuple[str, int], ...] = ()
        if credited or move.required:
            self._expire(move.tenant, now)
            available = self._balance(move.tenant) or 0
            if available < move.micros:
                return Denial(Reason.INSUFFICIENT_CREDITS, move.tenant, 0, available, move.micros)
        if credited:
            parts = self._take_parts(move.tenant, move.micros)
            about = Entry(move.tenant, 0, "", Kind.HOLD, 0, 0, now, move.execution_id, user=move.user)
            self._transact(about, Account.AVAILABLE, Account.HELD, move.micros)
        self.holds[move.execution_id] = Held(
            move.execution_id, move.tenant, move.user, move.task_id, move.micros, credited, parts, now
        )
        self.opened.add(move.execution_id)
        self._count(key, used + move.micros)
        return Moved(self._balance(move.tenant) if credited else None, used + move.micros)

    def _settle(self, move: Settle, now: float) -> Moved:
        held = self.holds.pop(move.execution_id, None)
        if held is None:
            return Moved()
        if held.execution_id in self.opened:
            self.opened.discard(held.execution_id)
        else:
            self.closed.add(held.execution_id)
        charge = min(max(move.charge_micros, 0), held.micros)
        task = max(0, self.tasks.get(held.task, held.micros) - held.micros + charge)
        self._count(held.task, task)
        if not held.credited:
            return Moved(None, task)
        about = Entry(held.tenant, 0, "", Kind.CHARGE, 0, 0, now, held.execution_id, user=held.user)
        if charge:
            self._transact(about, Account.HELD, Account.REVENUE, charge)
        if held.micros > charge:
            self._give_parts(held, charge)
            self._transact(about._replace(kind=Kind.REFUND), Account.HELD, Account.AVAILABLE, held.micros - charge)
        self._expire(held.tenant, now)
        return Moved(self._balance(held.tenant), task)

    def _grant(self, move: Grant, now: float) -> Moved | Denial:
        key = (move.tenant, move.request_id)
        found = self.grants.get(key)
        if found is not None:
            return Moved(self._balance(move.tenant), 0, found.entry, found.expire_time, repeated=True)
        if move.expire_time is not None and move.expire_time <= now:
            return Denial(Reason.INVALID_ARGUMENTS, "expire_time", 0, 0, move.micros)
        issued = -self.balances.get((move.tenant, Account.ISSUED), 0)
        if issued + move.micros > MOST_IN_ALL:
            return Denial(Reason.INVALID_ARGUMENTS, "amount_micros", issued, MOST_IN_ALL, move.micros)
        self.numbers.setdefault(move.tenant, 0)
        self._expire(move.tenant, now)
        about = Entry(
            move.tenant, 0, "", Kind.GRANT, 0, 0, now, request_id=move.request_id, user=move.user, note=move.note
        )
        self._transact(about, Account.ISSUED, Account.AVAILABLE, move.micros)
        entry = self.entries[-1]
        left = 0 if move.expire_time is None else move.micros
        self.grants[key] = Granted(entry, move.expire_time, left)
        self.changed_grants.add(key)
        return Moved(self._balance(move.tenant), 0, entry, move.expire_time)

    def _expire(self, tenant: str, now: float) -> None:
        """What is left of grants whose time has come is nobody's any more."""
        for key, granted in self._expiring(tenant):
            if granted.expire_time is not None and granted.expire_time <= now:
                about = Entry(tenant, 0, "", Kind.EXPIRE, 0, 0, now, request_id=key[1])
                self._transact(about, Account.AVAILABLE, Account.EXPIRED, granted.left_micros)
                self._leave(key, 0)

    def _expiring(self, tenant: str) -> Sequence[tuple[GrantKey, Granted]]:
        found = [item for item in self.grants.items() if item[0][0] == tenant and item[1].left_micros]
        return sorted(found, key=lambda item: (item[1].expire_time or 0.0, item[0]))

    def _take_parts(self, tenant: str, micros: int) -> tuple[tuple[str, int], ...]:
        """Spend what expires soonest first."""
        parts: list[tuple[str, int]] = []
        for key, granted in self._expiring(tenant):
            part = min(micros, granted.left_micros)
            if part:
                parts.append((key[1], part))
                self._leave(key, granted.left_micros - part)
                micros -= part
        return tuple(parts)

    def _give_parts(self, held: Held, charge: int) -> None:
        """Give back what the charge did not use, to the grants that it was taken of."""
        for request_id, part in held.parts:
            used = min(charge, part)
            charge -= used
            key = (held.tenant, request_id)
            if part > used:
                self._leave(key, self.grants[key].left_micros + part - used)

    def _leave(self, key: GrantKey, micros: int) -> None:
        self.grants[key] = replace(self.grants[key], left_micros=micros)
        self.changed_grants.add(key)

    def _transact(self, about: Entry, source: Account, target: Account, micros: int) -> None:
        """Two entries that sum to zero. Raises RuntimeError rather than overdraw: that would be a defect of ours."""
        tenant = about.tenant
        number = self.numbers[tenant] + 1
        for account, amount in ((source, -micros), (target, micros)):
            balance = self.balances.get((tenant, account), 0) + amount
            if balance < 0 and account is not Account.ISSUED:
                raise RuntimeError(f"account {account} of tenant {tenant!r} would be overdrawn by {-balance} micros")
            self.balances[tenant, account] = balance
            self.entries.append(
                about._replace(transaction=number, account=account, amount_micros=amount, balance_micros=balance)
            )
        self.numbers[tenant] = number

    def _balance(self, tenant: str) -> int | None:
        """What may be spent; None for a tenant without accounts."""
        return self.balances.get((tenant, Account.AVAILABLE), 0) if tenant in self.numbers else None

    def _count(self, key: TaskKey, micros: int) -> None:
        self.tasks[key] = micros
        self.changed_tasks.add(key)
