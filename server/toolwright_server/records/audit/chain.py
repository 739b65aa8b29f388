"""Links entries into chains, one for each tenant on this run of this server: the writer's Linker. Knows no database."""

import hashlib
from collections.abc import Sequence

from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.encoding import Columns
from toolwright_server.records.audit.model import NOTHING_BEFORE, Entry, Head, Kind, Row

_FACTS = b"{}"


class Chains:
    """The heads of this server's chains. `link`, `keep` and `drop` are called by one thread, the rest by any.

    `kept` counts the entries that were committed.
    """

    def __init__(self, server_id: str, epoch: int) -> None:
        self.server_id = server_id
        self.epoch = epoch
        self.kept = 0
        # By tenant. Committed, and linked since.
        self._heads: dict[str, Head] = {}
        self._linked: dict[str, Head] = {}
        self._count = 0
        # Commits that broke off since the last one that did not: what each linked, and how many entries that was.
        self._doubted: list[tuple[dict[str, Head], int]] = []

    def link(self, entries: Sequence[Entry]) -> Sequence[Row]:
        """The rows of these entries in their order; where a chain begins, its first entry comes before them."""
        rows: list[Row] = []
        linked, heads = self._linked, self._heads
        for kind, tenant, principal, user, time, execution_id, facts in entries:
            head = linked.get(tenant) or heads.get(tenant)
            if head is None:
                rows.append(self._first(tenant, time))
                head = linked[tenant]
            chain, before, previous = head
            sequence = before + 1
            body = encoding.facts_text(facts) if facts else _FACTS
            stamp = round(time * 1_000_000)
            rows.append(_row((chain, sequence, stamp, tenant, kind, principal, user, execution_id, body, previous)))
            linked[tenant] = Head(chain, sequence, rows[-1][10])
        self._count += len(rows)
        return rows

    def keep(self) -> None:
        """What was linked since the last time is committed."""
        self._heads.update(self._linked)
        self.kept += self._count
        self._doubted.clear()
        self.drop()

    def drop(self) -> None:
        """What was linked since the last time is not in the database: link as if it had never been."""
        self._linked.clear()
        self._count = 0

    def doubt(self) -> None:
        """What was linked since the last time may be in the database: whoever links next asks for `doubts` first."""
        if self._linked:
            self._doubted.append((dict(self._linked), self._count))
        self.drop()

    def doubts(self) -> Sequence[Head]:
        """One entry of each commit that broke off. Until something was kept: a commit may still be on its way."""
        return [next(iter(linked.values())) for linked, _ in self._doubted]

    def resolve(self, found: Head) -> None:
        """This one of the doubts is in the database, and with it all of its commit."""
        for linked, count in self._doubted:
            if found in linked.values():
                self._heads.update(linked)
                self.kept += count
        self._doubted.clear()

    def heads(self) -> list[Head]:
        """The last committed entry of every chain."""
        # One step of the interpreter: the writer's thread may be adding to it.
        return list(self._heads.values())

    def _first(self, tenant: str, time: float) -> Row:
        chain = encoding.chain_id(tenant, self.server_id, self.epoch)
        facts = encoding.facts_text({"server": self.server_id, "epoch": self.epoch, "format": encoding.FORMAT})
        stamp = encoding.microseconds(time)
        row = _row((chain, 1, stamp, tenant, Kind.CHAIN, "", "", "", facts, NOTHING_BEFORE))
        self._linked[tenant] = Head(chain, 1, row.hash)
        return row


def _row(columns: Columns) -> Row:
    chain, sequence, time, tenant, kind, principal, user, execution_id, body, previous = columns
    digest = hashlib.sha256(encoding.entry_text(columns)).digest()
    seconds = time / 1_000_000
    return Row(chain, sequence, seconds, tenant, kind, principal, user, execution_id, body, previous, digest)
