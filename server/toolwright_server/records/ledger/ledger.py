"""Grants, shows and verifies credits: who may do which. Knows neither gRPC nor where the books are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from toolwright_server.credits import MOST_MICROS
from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.identity import Caller, Role
from toolwright_server.identity.names import NAME_LIMIT, is_name
from toolwright_server.records.ledger.model import Balance, Entry, Grant, Moved
from toolwright_server.records.ledger.report import Report
from toolwright_server.records.ledger.store import LedgerQuery, LedgerStore

NOTE_LIMIT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A grant that is asked for. Empty `tenant`: the caller's own."""

    micros: int
    request_id: str
    tenant: str = ""
    expire_time: float | None = None
    note: str = ""


class Ledger:
    """See the module."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    async def grant(self, wanted: Wanted, by: Caller) -> Moved:
        """What was granted, now or before. Raises FORBIDDEN, INVALID_ARGUMENTS and REQUEST_ID_REUSED."""
        tenant = _tenant(wanted.tenant, by)
        _check(wanted, tenant)
        grant = Grant(tenant, wanted.request_id, wanted.micros, by.user, wanted.expire_time, wanted.note)
        moved = await self._store.grant(grant, by)
        if moved.repeated and not _same(moved, grant):
            raise ToolwrightError(
                Reason.REQUEST_ID_REUSED,
                f"the request id {wanted.request_id!r} belongs to a grant with another amount, expiry or note",
                metadata={"outcome": "not_started"},
            )
        return moved

    async def balance(self, tenant: str) -> Balance:
        """The credits of a tenant."""
        return await self._store.balance(tenant)

    async def list(self, query: LedgerQuery) -> Sequence[Entry]:
        """Entries of a tenant that the caller may see: ask `tenant_of` first."""
        return await self._store.list(query)

    async def check(self, tenant: str, by: Caller, *, everything: bool) -> Report:
        """Verify the books of a tenant, or of all. Raises FORBIDDEN and INVALID_ARGUMENTS."""
        if everything:
            by.require(Role.ADMIN)
            if tenant:
                raise invalid("tenant_id", "must be absent with all_tenants")
            return await self._store.check(None)
        return await self._store.check(_tenant(tenant, by))

    def tenant_of(self, asked: str, by: Caller) -> str:
        """Whose books. Raises FORBIDDEN."""
        return _tenant(asked, by)


def _tenant(asked: str, by: Caller) -> str:
    by.require(Role.OPERATOR)
    if asked in {"", by.tenant}:
        return by.tenant
    if by.role is not Role.ADMIN:
        raise ToolwrightError(Reason.FORBIDDEN, "the credits of another tenant are for admins")
    return asked


def _check(wanted: Wanted, tenant: str) -> None:
    if not 0 < wanted.micros <= MOST_MICROS:
        raise invalid("amount_micros", f"{wanted.micros} lies outside 1 to {MOST_MICROS}")
    for field, name in (("tenant_id", tenant), ("request_id", wanted.request_id)):
        if not is_name(name):
            raise invalid(field, f"must be printable text of 1 to {NAME_LIMIT} characters, and not *")
    if len(wanted.note) > NOTE_LIMIT or not wanted.note.isprintable():
        raise invalid("note", f"must be printable text of at most {NOTE_LIMIT} characters")


def _same(moved: Moved, grant: Grant) -> bool:
    entry = moved.entry
    assert entry is not None
    return (entry.amount_micros, moved.expire_time, entry.note) == (grant.micros, grant.expire_time, grant.note)
