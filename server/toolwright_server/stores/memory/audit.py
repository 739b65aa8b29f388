"""The audit trail in memory: for tests, and for who wants to see how it works. It grows without end."""

from bisect import bisect_right
from collections.abc import Callable, Sequence

from toolwright_server.conditions import Value, matches
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.model import Checkpoint, Entry, Head, Row, Span
from toolwright_server.records.audit.store import AuditQuery


class MemoryAuditStore:
    """An AuditStore that is its own writer: what is written is committed at once."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        self.rows: dict[str, list[Row]] = {}
        self.kept: dict[tuple[str, int], Checkpoint] = {}

    def write(self, *entries: Entry) -> None:
        """Link entries into their chains and keep them."""
        for row in self._chains.link(entries):
            self.rows.setdefault(row.chain_id, []).append(row)
        self._chains.keep()

    async def list(self, query: AuditQuery) -> Sequence[Row]:
        found = [row for rows in self.rows.values() for row in rows if _asked_for(query, row)]
        return sorted(found, key=_place, reverse=True)[: query.limit]

    async def spans(self, tenant: str | None) -> Sequence[Span]:
        return [
            Span(chain, rows[0].tenant, rows[0].sequence, Head(chain, rows[-1].sequence, rows[-1].hash))
            for chain, rows in sorted(self.rows.items())
            if rows and tenant in {None, rows[0].tenant}
        ]

    async def entries(self, chain_id: str, after: int, until: int, limit: int) -> Sequence[Row]:
        rows = self.rows.get(chain_id, [])
        start = bisect_right(rows, after, key=lambda row: row.sequence)
        return [row for row in rows[start : start + limit] if row.sequence <= until]

    async def checkpoints(self, after: tuple[str, int], limit: int) -> Sequence[Checkpoint]:
        return [self.kept[place] for place in sorted(self.kept) if place > after][:limit]

    async def tips(self, limit: int) -> Sequence[Checkpoint]:
        newest = {chain: self.kept[chain, sequence] for chain, sequence in sorted(self.kept)}
        return sorted(newest.values(), key=lambda tip: tip.time, reverse=True)[:limit]

    async def keep(self, checkpoint: Checkpoint) -> None:
        self.kept.setdefault((checkpoint.chain_id, checkpoint.sequence), checkpoint)

    async def prune(self, entries: Sequence[Head], checkpoints: Sequence[Head], evidence: Sequence[Entry]) -> None:
        for chain, sequence, _ in entries:
            self.rows[chain] = [row for row in self.rows.get(chain, []) if row.sequence > sequence]
        for chain, sequence, _ in checkpoints:
            for place in [place for place in self.kept if place[0] == chain and place[1] <= sequence]:
                del self.kept[place]
        self.write(*evidence)

    async def alive(self) -> Sequence[tuple[str, int]]:
        return [(self._chains.server_id, self._chains.epoch)]


def _place(row: Row) -> tuple[float, str, int]:
    return row.time, row.chain_id, row.sequence


def _asked_for(query: AuditQuery, row: Row) -> bool:
    return (
        row.tenant == query.tenant
        and (query.users is None or row.user in query.users)
        and (query.before is None or _place(row) < query.before)
        and matches(query.condition, _fields(row))
    )


def _fields(row: Row) -> Callable[[str], Value]:
    # The contract's names of fields are those of the columns, but for this one.
    return lambda name: row.user if name == "user_id" else getattr(row, name)
