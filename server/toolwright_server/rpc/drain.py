"""How a server ends without losing what it accepted. Installs no signal handlers: it is told."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from toolwright_server.rpc.server import RpcServer

_logger = logging.getLogger(__name__)

# Time for answers that are given but not yet sent, and for calls to tell that they were cancelled.
_LAST_WORDS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Drained:
    """How it went: calls that were still running at the end of the grace and had to be cancelled."""

    cancelled: int


class Drain:
    """Ends a server in order. `run` once; `hurry` (a second signal) cuts short whatever it waits for.

    `on_drain` is called when nothing new is let in any more; `cancel` when the grace is over and calls are still
    running: it stops their work, so that they can answer. `settled` is awaited with the running calls: work that goes
    on without a caller.
    """

    def __init__(
        self,
        server: RpcServer,
        cancel: Callable[[], Awaitable[object]],
        settled: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.on_drain: list[Callable[[], object]] = [server.health.end_watches]
        self._server = server
        self._cancel = cancel
        self._settled = settled
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Do not wait any longer."""
        self._hurry.set()

    async def run(self, notice_seconds: float, grace_seconds: float) -> Drained:
        """Drain the server, and stop it. Both times are upper bounds of what they are named for, in seconds."""
        gate = self._server.gate
        self._server.health.begin_drain()
        _logger.info("draining: %d calls run; more are let in for %g s", gate.working, notice_seconds)
        await self._wait(self._hurry.wait(), notice_seconds)
        gate.close()
        for tell in self.on_drain:
            tell()
        cancelled = 0
        if not await self._wait(self._work_done(), grace_seconds):
            cancelled = gate.working
            _logger.warning("draining: the time is over; %d calls still run and are cancelled", cancelled)
            await self._wait(self._cancel(), _LAST_WORDS_SECONDS, patient=True)
            await self._wait(gate.quiet(), _LAST_WORDS_SECONDS, patient=True)
        watching = gate.end_watching()
        await self._server.stop(_LAST_WORDS_SECONDS)
        _logger.info("drained: %d calls were cancelled, %d watching streams were ended", cancelled, watching)
        return Drained(cancelled)

    async def _work_done(self) -> None:
        await self._server.gate.quiet()
        if self._settled is not None:
            await self._settled()

    async def _wait(self, awaited: Awaitable[object], seconds: float, *, patient: bool = False) -> bool:
        """Wait for `awaited`, up to `seconds` and, unless `patient`, until there is a hurry; whether it came."""
        wanted = asyncio.ensure_future(awaited)
        others = set[asyncio.Future[object]]() if patient else {asyncio.ensure_future(self._hurry.wait())}
        try:
            await asyncio.wait({wanted, *others}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in (wanted, *others):
                future.cancel()
        if not wanted.done():
            return False
        if not wanted.cancelled():
            wanted.result()
            return True
        return False
