"""Reads the trail from the database line by line: to hand it out, signed at the end, or to verify it."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.model import Checkpoint, Head, Row
from toolwright_server.records.audit.offline.report import Report
from toolwright_server.records.audit.offline.verifier import Verifier
from toolwright_server.records.audit.store import AuditReader

# Entries that are read and worked on at a time: a few milliseconds of one thread.
PAGE = 500


class Exporter:
    """One server's way to give its trail away. Takes as much memory as one page, and its checkpoints when verifying.

    `readers` counts what is being read now; nothing is pruned meanwhile, and nobody begins while `pruning` is held.
    """

    def __init__(
        self, reader: AuditReader, key: SigningKey, server_id: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._reader = reader
        self._key = key
        self._server_id = server_id
        self._clock = clock
        self.readers = 0
        self.pruning = asyncio.Lock()

    async def export(self, tenant: str | None) -> AsyncGenerator[bytes]:
        """The file, in pieces of whole lines. None: all tenants. Raises STORE_UNAVAILABLE."""
        head = encoding.header_line(tenant, encoding.microseconds(self._clock()), self._server_id) + b"\n"
        digest = hashlib.sha256(head)
        yield head
        contents = _Contents(self._reader)
        async with self._reading(), aclosing(contents.read(tenant)) as pages:
            async for page in pages:
                piece = await asyncio.to_thread(_joined, page)
                digest.update(piece)
                yield piece
        text = encoding.trailer_text(
            encoding.microseconds(self._clock()),
            self._key.key_id,
            entries=contents.entries,
            checkpoints=contents.checkpoints,
            digest=digest.digest(),
            chains=contents.chains,
        )
        yield encoding.signed_line(text, self._key.sign(text)) + b"\n"

    async def verify(self, tenant: str | None) -> Report:
        """What is wrong with the trail as it is in the database. Raises STORE_UNAVAILABLE."""
        async with self._reading():
            return await self.verify_held(tenant)

    async def verify_held(self, tenant: str | None) -> Report:
        """As `verify`, for who holds `pruning`."""
        verifier = Verifier(self._key.trusted, tenant=tenant, whole=False)
        async with aclosing(_Contents(self._reader).read(tenant)) as pages:
            async for page in pages:
                await asyncio.to_thread(_verify, verifier, page)
        return await asyncio.to_thread(verifier.finish)

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[None]:
        async with self.pruning:
            self.readers += 1
        try:
            yield
        finally:
            self.readers -= 1


class _Contents:
    """One reading: checkpoints first, so that what they demand is known, and was committed, before entries are read."""

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader
        self.entries = 0
        self.checkpoints = 0
        self.chains: list[tuple[int, Head]] = []

    async def read(self, tenant: str | None) -> AsyncGenerator[Sequence[Checkpoint] | Sequence[Row]]:
        """Pages of checkpoints, then pages of entries, a chain after the other."""
        after = "", 0
        ends: dict[str, tuple[int, Head]] = {}
        while found := await self._reader.checkpoints(after, PAGE):
            self.checkpoints += len(found)
            for checkpoint in found:
                first, _ = ends.get(checkpoint.chain_id, (checkpoint.sequence, None))
                ends[checkpoint.chain_id] = first, checkpoint.head
            yield found
            after = found[-1].chain_id, found[-1].sequence
        self.chains.extend(ends.values())
        for span in await self._reader.spans(tenant):
            sequence = span.first - 1
            while rows := await self._reader.entries(span.last.chain_id, sequence, span.last.sequence, PAGE):
                self.entries += len(rows)
                yield rows
                sequence = rows[-1].sequence
            self.chains.append((span.first, span.last))


def _line(member: Checkpoint | Row) -> bytes:
    try:
        return encoding.entry_line(member) if isinstance(member, Row) else encoding.checkpoint_line(member)
    except (TypeError, ValueError, AttributeError):
        # SQLite takes any value into any column. It shows as a line that cannot be read, and nothing else stops.
        return b'{"type":"%b"}' % (b"entry" if isinstance(member, Row) else b"checkpoint")


def _joined(page: Sequence[Checkpoint] | Sequence[Row]) -> bytes:
    return b"".join(_line(member) + b"\n" for member in page)


def _verify(verifier: Verifier, page: Sequence[Checkpoint] | Sequence[Row]) -> None:
    for member in page:
        verifier.feed(_line(member))
