"""Between the protos and the ledger."""

import time
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from toolwright.v1 import usage_pb2 as pb
from toolwright_server.errors import invalid
from toolwright_server.records.ledger.ledger import Wanted
from toolwright_server.records.ledger.model import Account, Balance, Entry, Kind
from toolwright_server.records.ledger.quota import Reading
from toolwright_server.records.ledger.report import Report

_KINDS: Final = {kind.value: pb.LedgerEntryKind.Value(f"LEDGER_ENTRY_KIND_{kind.name}") for kind in Kind}
_QUOTA_KINDS: Final = {name.removeprefix("QUOTA_KIND_"): number for name, number in pb.QuotaKind.items()}
_TRANSACTION_LIMIT: Final = 2**63


def entry(row: Entry) -> pb.LedgerEntry:
    """One side of a transaction."""
    message = pb.LedgerEntry(
        tenant_id=row.tenant,
        transaction=row.transaction,
        account=row.account,
        kind=_KINDS[row.kind],
        amount_micros=row.amount_micros,
        balance_micros=row.balance_micros,
        execution_id=row.execution_id,
        request_id=row.request_id,
        user_id=row.user,
        note=row.note,
    )
    _set(message.entry_time, row.time)
    return message


def balance(found: Balance) -> pb.CreditBalance:
    """The credits of a tenant."""
    return pb.CreditBalance(enabled=found.enabled, balance_micros=found.available_micros, held_micros=found.held_micros)


def quota(reading: Reading, now: float | None = None) -> pb.Quota:
    """A limit as it stands."""
    check = reading.check
    message = pb.Quota(
        rule=check.rule,
        subject=check.subject,
        kind=_QUOTA_KINDS.get(check.kind.name, pb.QUOTA_KIND_UNSPECIFIED),  # pyright: ignore[reportArgumentType]
        used=reading.used,
        limit=check.limit,
        remaining=max(0, check.limit - reading.used),
        shadow=check.shadow,
    )
    if check.window_seconds > 0:
        message.window.FromMilliseconds(round(check.window_seconds * 1000))
    if reading.reset_seconds > 0:
        _set(message.reset_time, (time.time() if now is None else now) + reading.reset_seconds)
    return message


def wanted(request: pb.GrantCreditsRequest) -> Wanted:
    """The grant that is asked for. Raises INVALID_ARGUMENTS."""
    expires: float | None = None
    if request.HasField("expire_time"):
        try:
            expires = request.expire_time.ToMicroseconds() / 1e6
        except ValueError:
            raise invalid("expire_time", "is no time") from None
    return Wanted(
        micros=request.amount_micros,
        request_id=request.request_id,
        tenant=request.tenant_id,
        expire_time=expires,
        note=request.note,
    )


def checked(report: Report) -> pb.CheckLedgerResponse:
    """What a verification found."""
    return pb.CheckLedgerResponse(
        valid=report.valid,
        tenant_count=report.tenants,
        transaction_count=report.transactions,
        entry_count=report.entries,
        hold_count=report.holds,
        unknown_hold_count=report.unknown_holds,
        held_micros=report.held_micros,
        problems=[
            pb.LedgerProblem(
                tenant_id=problem.tenant, fault=problem.fault.value, place=problem.place, description=problem.says
            )
            for problem in report.problems
        ],
    )


def place(row: Entry) -> str:
    """An entry's place in a list, for a page token."""
    return f"{row.transaction} {row.account}"


def read_place(text: str) -> tuple[int, str] | None:
    """The entry behind which a page begins; None for the first. Raises INVALID_ARGUMENTS."""
    if not text:
        return None
    number, _, account = text.partition(" ")
    if not (number.isdecimal() and number.isascii() and int(number) < _TRANSACTION_LIMIT and account in set(Account)):
        raise invalid("page_token", "is not one that this server gave out")
    return int(number), account


def _set(field: Timestamp, seconds: float) -> None:
    field.FromMicroseconds(round(seconds * 1e6))
