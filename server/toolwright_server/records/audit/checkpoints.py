"""Signs the heads of this server's chains, every few seconds and at the end, to the database and to the log.

Each checkpoint holds the hash of the one before it. The first one names the newest of every other server, so that
whoever cuts the end off a server's trail must cut off what came later elsewhere as well.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolwright_server.errors import ToolwrightError
from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.model import (
    NOTHING_BEFORE,
    Adopted,
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
        self._adopted: list[Adopted] = []
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
        if not due or (self._sequence and not grown and not self._adopted):
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
            heads = [head for head in self._chains.heads() if self._signed.get(head.chain_id, 0) < head.sequence]
            if self._sequence and not (heads or self._adopted or pruned or closing):
                return
            await self._keep(heads, pruned, closing=closing)
            self._entries, self._since, self._closed = kept, self._clock(), closing

    async def adopt(self, server_id: str, epoch: int) -> None:
        """Sign, with the next checkpoint, how far the chains of a dead server reach. Raises STORE_UNAVAILABLE."""
        self._adopted += [
            Adopted(server_id, epoch, span.last)
            for span in await self._store.spans(None)
            if span.last.chain_id == encoding.chain_id(span.tenant, server_id, epoch)
        ]

    async def _keep(self, heads: Sequence[Head], pruned: Pruned | None, *, closing: bool) -> None:
        adopted = list(self._adopted)
        statement = Statement(
            chain_id=self._chain,
            sequence=self._sequence + 1,
            time=encoding.microseconds(self._clock()),
            server_id=self._chains.server_id,
            epoch=self._chains.epoch,
            key_id=self._key.key_id,
            previous=self._hash,
            heads=heads,
            adopted=adopted,
            named=self._named if self._sequence == 0 else (),
            closing=closing,
            pruned=pruned,
        )
        text = encoding.checkpoint_text(statement)
        digest = hashlib.sha256(text).digest()
        checkpoint = Checkpoint(
            self._chain, statement.sequence, statement.time / 1e6, digest, self._key.sign(text), text
        )
        # Until it is known to be there or not, no other is made in its place.
        self._doubtful = True
        await self._store.keep(checkpoint)
        self._doubtful = False
        self._sequence, self._hash = checkpoint.sequence, digest
        self._signed |= {head.chain_id: head.sequence for head in heads}
        del self._adopted[: len(adopted)]
        log(checkpoint)

    async def _catch_up(self) -> None:
        """Find the others, and one's own newest: a commit that seemed to fail may have come through."""
        tips = await self._store.tips(_NAMED_LIMIT)
        self._named = [Named(tip.head, encoding.microseconds(tip.time)) for tip in tips if tip.chain_id != self._chain]
        own = next((tip for tip in tips if tip.chain_id == self._chain), None)
        if own is not None and own.sequence > self._sequence:
            self._sequence, self._hash = own.sequence, own.hash
            log(own)
        self._doubtful = False


def log(checkpoint: Checkpoint) -> None:
    """One line, which `toolwright audit verify --log` reads: chain, sequence, time in microseconds, hash."""
    stamp = encoding.microseconds(checkpoint.time)
    _logger.info("audit checkpoint %s %d %d %s", checkpoint.chain_id, checkpoint.sequence, stamp, checkpoint.hash.hex())
