"""What the ledger needs kept. Holds and settlements come in with the executions that they belong to: see
`execution/store.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from toolwright_server.identity import Caller
from toolwright_server.records.ledger.model import Balance, Entry, Grant, Moved
from toolwright_server.records.ledger.report import Report


@dataclass(frozen=True, slots=True)
class LedgerQuery:
    """Which entries of a tenant, newest first. Empty `execution_id`: whatever they are about.

    `before` is the transaction and the account of the last entry of the page before.
    """

    tenant: str
    limit: int
    execution_id: str = ""
    before: tuple[int, str] | None = None


class LedgerStore(Protocol):
    """Keeps credits. Every verb may raise STORE_UNAVAILABLE."""

    async def grant(self, grant: Grant, by: Caller) -> Moved:
        """Give credits, durably, with an entry in the audit trail; or find that this was done before.

        Raises INVALID_ARGUMENTS when the tenant would have more than can be counted.
        """
        ...

    async def balance(self, tenant: str) -> Balance:
        """The credits of a tenant now, without what has expired."""
        ...

    async def list(self, query: LedgerQuery) -> Sequence[Entry]:
        """At most `query.limit` entries, newest first; within a transaction by account."""
        ...

    async def check(self, tenant: str | None) -> Report:
        """Verify the books of a tenant, or of all, as they are at one moment."""
        ...
