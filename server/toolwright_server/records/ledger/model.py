"""What the ledger consists of: accounts, entries, and the moves that make entries. Amounts are whole micros."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from toolwright_server.errors import Reason

# What all accounts of a tenant may hold: far from what a column of 64 bits does.
MOST_IN_ALL: Final = 2**62


class Account(StrEnum):
    """Where credits are. Each tenant has one of each; together they always sum to zero."""

    AVAILABLE = "available"
    HELD = "held"
    # The system's side. Apart for each tenant, so that nobody waits for the row of a stranger.
    ISSUED = "issued"
    REVENUE = "revenue"
    EXPIRED = "expired"


class Kind(StrEnum):
    """Why credits were moved."""

    GRANT = "grant"
    HOLD = "hold"
    CHARGE = "charge"
    REFUND = "refund"
    EXPIRE = "expire"


class Entry(NamedTuple):
    """What one transaction did to one account: the columns of `ledger_entries`, in their order.

    Transactions of a tenant are numbered from 1 without gaps. `balance_micros` is the account's afterwards.
    """

    tenant: str
    transaction: int
    account: str
    kind: str
    amount_micros: int
    balance_micros: int
    time: float
    # Empty where it is about none.
    execution_id: str = ""
    request_id: str = ""
    user: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class CostLimits:
    """Most that one call, and one task with all its steps, may cost, in micros."""

    call_micros: int
    task_micros: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Set aside what a call costs at most. Denied when its task or its tenant has too little left.

    `task_limit_micros` None: the task may cost anything. `required`: a tenant that was never granted credits has none;
    else its calls are not paid for.
    """

    execution_id: str
    tenant: str
    user: str
    task_id: str
    micros: int
    task_limit_micros: int | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """Charge so much of what is held for a call and give the rest back. Of what is not held nothing follows."""

    execution_id: str
    tenant: str
    charge_micros: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Give credits to a tenant, once for each request id. `expire_time` in seconds since the epoch."""

    tenant: str
    request_id: str
    micros: int
    user: str
    expire_time: float | None = None
    note: str = ""


Move = Hold | Settle | Grant


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a move. `balance_micros` is what may be spent afterwards; None where credits are off.

    `task_micros` is what the task has cost, holds included, after a hold. `entry` is the one on `available` that a
    grant made, also when it was made before (`repeated`), with when it expires.
    """

    balance_micros: int | None = None
    task_micros: int = 0
    entry: Entry | None = None
    expire_time: float | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a move was not made: BUDGET_EXCEEDED of a task, INSUFFICIENT_CREDITS of a tenant, or INVALID_ARGUMENTS of a
    grant, whose `subject` is the field that is wrong. All in micros.

    `used` of `limit`: what the task has cost, or 0 of what the tenant has. `asked` is what the move needed.
    """

    reason: Reason
    subject: str
    used: int
    limit: int
    asked: int


@dataclass(frozen=True, slots=True)
class Balance:
    """The credits of a tenant. Not `enabled`: priced calls are not paid for, and there are none."""

    enabled: bool = False
    available_micros: int = 0
    held_micros: int = 0
