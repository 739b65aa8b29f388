"""Signs the heads of this server's chains, every few seconds and at the end, to the database and to the log.

Each checkpoint holds the hash of the one before it. The first one names the newest of every other server, so that
whoever cuts the end off a server's trail must cut off what came later elsewhere as well.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from toolwright_server.errors import ToolwrightError
from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.model import (
    NOTHING_BEFORE,
    Checkpoint,
    Head,
    Named,
    Pruned,
    Statement,
)
from toolwright_server.records.audit.store import AuditStore

_logger = logging.getLogger(__name__)

# Servers whose newest checkpoint a first one names.
_NAMED_LIMIT = 100


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """A checkpoint is due after so many seconds in which anything was added, or after so many entries."""

    seconds: float = 30.0
    entries: int = 10_000


class Checkpointer:
    """`tick` it every second or so, on the event loop. `failed` counts checkpoints that could not be kept."""

    def __init__(
        self,
        chains: Chains,
        key: SigningKey,
        store: AuditStore,
        options: CheckpointOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._chains = chains
        self._key = key
        self._store = store
        self._options = options or CheckpointOptions()
        self._clock = clock
        self._chain = encoding.chain_id(None, chains.server_id, chains.epoch)
        self._sequence = 0
        self._hash = NOTHING_BEFORE
        # By chain, the sequence that is signed already.
        self._signed: dict[str, int] = {}
        self._entries = 0
        self._since = clock()
        self._named: list[Named] = []
        self._doubtful = False
        self._closed = False
        self._lock = asyncio.Lock()
        self.failed = 0

    @property
    def server(self) -> tuple[str, int]:
        """Whose chains these are: server id and epoch."""
        return self._chains.server_id, self._chains.epoch

    def now(self) -> float:
        """The time, in seconds since the epoch."""
        return self._clock()

    async def tick(self) -> None:
        """Sign if it is due. Never raises: what could not be kept is tried again at the next tick."""
        now = self._clock()
        grown = self._chains.kept - self._entries
        due = self._sequence == 0 or grown >= self._options.entries or now - self._since >= self._options.seconds
        if not due or (self._sequence and not grown):
            return
        try:
            await self.sign()
        except ToolwrightError as error:
            self.failed += 1
            # Not before the next period: a database that is gone is not asked every second.
            self._since = now
            _logger.warning("an audit checkpoint could not be kept, and is tried again: %s", error)

    async def sign(self, *, pruned: Pruned | None = None, closing: bool = False) -> None:
        """Sign what has grown, if anything has. Raises STORE_UNAVAILABLE."""
        async with self._lock:
            if self._closed:
                return
            if self._sequence == 0 or self._doubtful:
                await self._catch_up()
            # The count before the heads: what is committed in between is signed twice rather than never.
            kept = self._chains.kept
            heads = self._chains.heads()
            if not closing:
                heads = [head for head in heads if self._signed.get(head.chain_id, 0) < head.sequence]
            if self._sequence and not (heads or pruned or closing):
                return
            await self._keep(heads, pruned, closing=closing)
            self._entries, self._since, self._closed = kept, self._clock(), closing

    async def close_dead(self) -> None:
        """Sign how far the chains of servers reach that died without signing it. Raises STORE_UNAVAILABLE.

        They were fenced when their lease ended: nothing can be added to their chains any more.
        """
        alive = {*await self._store.alive(), self.server}
        dead = [(tip, server) for tip in await self._store.tips(_NAMED_LIMIT) if (server := _died(tip, alive))]
        spans = await self._store.spans(None) if dead else ()
        for tip, server in dead:
            ends = [span.last for span in spans if span.last.chain_id == encoding.chain_id(span.tenant, *server)]
            await self._store.keep(self._signed_text(self._statement(tip.head, server, ends, closing=True)))

    async def _keep(self, heads: Sequence[Head], pruned: Pruned | None, *, closing: bool) -> None:
        own = Head(self._chain, self._sequence, self._hash)
        statement = self._statement(own, self.server, heads, closing=closing)
        named = self._named if self._sequence == 0 else ()
        checkpoint = self._signed_text(statement._replace(pruned=pruned, named=named))
        # Until it is known to be there or not, no other is made in its place.
        self._doubtful = True
        await self._store.keep(checkpoint)
        self._doubtful = False
        self._sequence, self._hash = checkpoint.sequence, checkpoint.hash
        self._signed |= {head.chain_id: head.sequence for head in heads}
        log(checkpoint)

    def _statement(self, before: Head, server: tuple[str, int], heads: Sequence[Head], *, closing: bool) -> Statement:
        return Statement(
            chain_id=before.chain_id,
            sequence=before.sequence + 1,
            time=encoding.microseconds(self._clock()),
            server_id=server[0],
            epoch=server[1],
            key_id=self._key.key_id,
            previous=before.hash,
            heads=heads,
            closing=closing,
        )

    def _signed_text(self, statement: Statement) -> Checkpoint:
        text = encoding.checkpoint_text(statement)
        seconds = statement.time / 1_000_000
        digest = hashlib.sha256(text).digest()
        return Checkpoint(statement.chain_id, statement.sequence, seconds, digest, self._key.sign(text), text)

    async def _catch_up(self) -> None:
        """Find the others, and one's own newest: a commit that seemed to fail may have come through."""
        if self._sequence == 0:
            await self.close_dead()
        tips = await self._store.tips(_NAMED_LIMIT)
        self._named = [Named(tip.head, encoding.microseconds(tip.time)) for tip in tips if tip.chain_id != self._chain]
        own = next((tip for tip in tips if tip.chain_id == self._chain), None)
        if own is not None and own.sequence > self._sequence:
            self._sequence, self._hash = own.sequence, own.hash
            log(own)
        self._doubtful = False


def _died(tip: Checkpoint, alive: Collection[tuple[str, int]]) -> tuple[str, int] | None:
    """Server id and epoch of a checkpoint behind which its server should have signed another one, and cannot."""
    said: dict[str, Any] = orjson.loads(tip.body)
    server = said["server"], said["epoch"]
    return None if said["closing"] or server in alive else server


def log(checkpoint: Checkpoint) -> None:
    """One line, which `toolwright audit verify --log` reads: chain, sequence, time in microseconds, hash."""
    stamp = encoding.microseconds(checkpoint.time)
    _logger.info("audit checkpoint %s %d %d %s", checkpoint.chain_id, checkpoint.sequence, stamp, checkpoint.hash.hex())
