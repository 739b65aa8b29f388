"""What the audit trail needs of a database. Entries come in through the record's writer, with what they are about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from toolwright_server.conditions import ALWAYS, Condition
from toolwright_server.records.audit.model import Checkpoint, Entry, Head, Row, Span

# The fields that a condition may name.
QUERY_FIELDS = ("kind", "principal", "user_id", "execution_id", "chain_id", "time")


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries of a tenant, newest first. `users` None: of all of them.

    `before` is the time, chain and sequence of the last entry of the page before.
    """

    tenant: str
    limit: int
    users: frozenset[str] | None = None
    condition: Condition = field(default=ALWAYS)
    before: tuple[float, str, int] | None = None


class AuditReader(Protocol):
    """Reads what is committed. Raises STORE_UNAVAILABLE."""

    async def list(self, query: AuditQuery) -> Sequence[Row]:
        """At most `query.limit` entries, newest first."""
        ...

    async def spans(self, tenant: str | None) -> Sequence[Span]:
        """The chains of a tenant, or of all, in the order of their ids."""
        ...

    async def entries(self, chain_id: str, after: int, until: int, limit: int) -> Sequence[Row]:
        """At most `limit` entries of a chain behind `after` and up to `until`, by sequence."""
        ...

    async def checkpoints(self, after: tuple[str, int], limit: int) -> Sequence[Checkpoint]:
        """At most `limit` checkpoints behind this chain and sequence, in this order."""
        ...


class AuditKeeper(Protocol):
    """Writes what is not an entry. Durable on return. Raises STORE_UNAVAILABLE."""

    async def tips(self, limit: int) -> Sequence[Checkpoint]:
        """The newest checkpoint of every server, the newest of them first."""
        ...

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; the same one may be there already."""
        ...

    async def prune(self, entries: Sequence[Head], checkpoints: Sequence[Head], evidence: Sequence[Entry]) -> None:
        """Delete the entries and the checkpoints up to these heads, in batches; then keep the evidence."""
        ...

    async def alive(self) -> Sequence[tuple[str, int]]:
        """Server id and epoch of the servers that hold a lease: their chains go on."""
        ...


class AuditStore(AuditReader, AuditKeeper, Protocol):
    """Both."""
