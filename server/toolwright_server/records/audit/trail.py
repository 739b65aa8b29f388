"""The audit trail of one server, put together: its checkpoints, its refusals, and the task that keeps both going."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from toolwright_server.errors import ToolwrightError
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.checkpoints import Checkpointer, CheckpointOptions
from toolwright_server.records.audit.exporting import Exporter
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.model import Entry
from toolwright_server.records.audit.pruning import Pruning
from toolwright_server.records.audit.refusals import RefusalOptions, Refusals
from toolwright_server.records.audit.store import AuditStore

_logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0


class AuditTrail:
    """Made on the event loop; `start` once the store can be used, `close` before its writer is closed.

    `emit` keeps an entry some time soon and never waits; `flush` returns once all that was emitted is kept or lost.
    """

    def __init__(
        self,
        chains: Chains,
        key: SigningKey,
        store: AuditStore,
        *,
        emit: Callable[[Entry], None],
        flush: Callable[[], Awaitable[None]],
        checkpoints: CheckpointOptions | None = None,
        refusals: RefusalOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.emit = emit
        self.clock = clock
        self.refusals = Refusals(emit, refusals, clock)
        self.checkpointer = Checkpointer(chains, key, store, checkpoints, clock)
        self.exporter = Exporter(store, key, chains.server_id, clock)
        self.pruning = Pruning(store, self.exporter, self.checkpointer)
        self._flush = flush
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sign. The first checkpoint names those of the servers before."""
        self._task = asyncio.create_task(self._run(), name="audit trail")

    async def close(self, timeout_seconds: float = 5.0) -> None:
        """Sign for the last time. Never raises: what cannot be signed is said in the log."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.refusals.flush()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._flush()
                await self.checkpointer.sign(closing=True)
        except (ToolwrightError, TimeoutError) as error:
            _logger.warning(
                "the last audit checkpoint could not be kept: the end of the trail is not signed: %s", error
            )

    async def caught_up(self) -> None:
        """Have everything that happened so far written and signed. Raises STORE_UNAVAILABLE."""
        await self._flush()
        await self.checkpointer.sign()

    async def _run(self) -> None:
        while True:
            try:
                self.refusals.tick()
                await self.checkpointer.tick()
            except Exception:
                # A trail without checkpoints is worse than a tick that failed.
                _logger.exception("a tick of the audit trail failed")
            await asyncio.sleep(_TICK_SECONDS)
