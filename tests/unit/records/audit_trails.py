"""Audit trails as servers leave them behind, in memory, with a clock that tests turn by hand; and exports of them."""

import asyncio
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.checkpoints import Checkpointer
from toolwright_server.records.audit.exporting import Exporter
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.model import Checkpoint, Entry, Kind, Row
from toolwright_server.records.audit.offline.report import Report
from toolwright_server.records.audit.offline.verifier import Verifier
from toolwright_server.records.audit.pruning import Pruning
from toolwright_server.stores.memory.audit import MemoryAuditStore

DAY = 86_400.0
# Whatever a text may hold.
FACTS = {"tool": "crm.contact.create", "ok": True, "none": None, "text": 'é "\\\u2028\x00\x7f\n', "most": 2**63 - 1}


def signing_key(seed: int = 1) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


class Trail:
    """A database, and the server that runs on it now."""

    def __init__(self, key: SigningKey | None = None) -> None:
        self.key = key or signing_key()
        self.now = 1_000 * DAY
        self.epoch = 0
        self.rows: dict[str, list[Row]] = {}
        self.kept: dict[tuple[str, int], Checkpoint] = {}
        self.start()

    def start(self) -> None:
        """A server starts; the one before was killed."""
        self.epoch += 1
        self.chains = Chains("server-1", self.epoch)
        self.store = MemoryAuditStore(self.chains)
        self.store.rows, self.store.kept = self.rows, self.kept
        self.checkpointer = Checkpointer(self.chains, self.key, self.store, clock=lambda: self.now)
        self.exporter = Exporter(self.store, self.key, "server-1", lambda: self.now)
        self.pruning = Pruning(self.store, self.exporter, self.checkpointer)

    def write(self, count: int = 1, tenant: str = "acme") -> None:
        for number in range(count):
            self.now += 1.0
            entry = Entry(Kind.INTENT, tenant, "key-1", "ann", self.now, f"id-{number}", {**FACTS, "number": number})
            self.store.write(entry)

    def sign(self, **how: Any) -> None:
        self.now += 1.0
        asyncio.run(self.checkpointer.sign(**how))

    def verify(self, tenant: str | None = None) -> Report:
        return asyncio.run(self.exporter.verify(tenant))

    def export(self, tenant: str | None = None) -> bytes:
        self.now += 1.0

        async def read() -> bytes:
            return b"".join([piece async for piece in self.exporter.export(tenant)])

        return asyncio.run(read())

    def chain(self, tenant: str, epoch: int) -> str:
        return encoding.chain_id(tenant, "server-1", epoch)


def eventful(key: SigningKey | None = None) -> Trail:
    """Three runs of a server, of which the first was killed; two tenants; all is signed but the last two entries."""
    trail = Trail(key)
    trail.write(4)
    trail.write(3, "zenith")
    trail.sign()
    trail.write(3)
    trail.sign()
    trail.write(2)
    trail.start()
    trail.write(3)
    trail.write(2, "zenith")
    trail.sign()
    trail.write(1)
    trail.sign(closing=True)
    trail.start()
    trail.write(3)
    trail.sign()
    trail.write(2)
    trail.sign()
    trail.write(2)
    return trail


def judged(file: bytes, key: SigningKey | None = None, **options: Any) -> Report:
    """What the verifier says of a file."""
    verifier = Verifier((key or signing_key()).trusted, **options)
    for line in file.split(b"\n")[: -1 if file.endswith(b"\n") else None]:
        verifier.feed(line)
    return verifier.finish(complete=file.endswith(b"\n"))


def members(file: bytes) -> list[tuple[str, int]]:
    """Chain and sequence of each line; an empty chain for the first and the last."""
    said = [json.loads(line) for line in file.splitlines()]
    return [(line.get("chain", ""), line.get("sequence", 0)) for line in said]


def rehashed(row: Row) -> Row:
    """The row with the hash that its content has, as whoever changes it would make it."""
    text = encoding.entry_text((row[0], row[1], encoding.microseconds(row[2]), *row[3:10]))
    return row._replace(hash=hashlib.sha256(text).digest())


def relinked(rows: Iterable[Row]) -> list[Row]:
    """The rows as one chain without a seam: every sequence, previous hash and hash behind the first made anew."""
    found: list[Row] = []
    for row in rows:
        behind = found[-1] if found else None
        place = {"sequence": behind.sequence + 1, "previous": behind.hash} if behind else {}
        found.append(rehashed(row._replace(**place)))
    return found
