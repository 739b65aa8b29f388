"""How a server ends without losing what it accepted. Installs no signal handlers: it is told."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from toolwright_server.rpc.server import RpcServer

_logger = logging.getLogger(__name__)


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
        *,
        last_words_seconds: float = 1.0,
        moment_seconds: float = 0.02,
    ) -> None:
        """`last_words_seconds` bounds each step behind the grace: cancelling, telling the callers, sending answers.

        `moment_seconds` is longer than gRPC takes to hand over a call that it holds.
        """
        self.on_drain: list[Callable[[], object]] = [server.health.end_watches]
        self._server = server
        self._cancel = cancel
        self._settled = settled
        self._last_words = last_words_seconds
        self._moment = moment_seconds
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Do not wait any longer."""
        self._hurry.set()

    async def run(self, notice_seconds: float, grace_seconds: float, *, announced: bool = True) -> Drained:
        """Drain the server, and stop it. Both times are upper bounds of what they are named for, in seconds.

        `announced` False: health goes on saying what it said, because others go on serving at this address.
        """
        gate = self._server.gate
        if announced:
            self._server.health.begin_drain()
        _logger.info("draining: calls are let in for another %g s; running: %d", notice_seconds, gate.working)
        await self._wait(self._hurry.wait(), notice_seconds)
        gate.close()
        self._tell()
        cancelled = 0
        if not await self._wait(self._work_done(), grace_seconds):
            cancelled = gate.working
            _logger.warning("draining: the time is over; cancelling what runs, calls: %d", cancelled)
            await self._wait(self._cancel(), self._last_words, patient=True)
            await self._wait(gate.quiet(), self._last_words, patient=True)
        watching = gate.end_watching()
        await self._wait(self._turn_away(), self._last_words, patient=True)
        await self._server.stop(self._last_words)
        _logger.info("drained; calls cancelled: %d, watching streams ended: %d", cancelled, watching)
        return Drained(cancelled)

    async def _work_done(self) -> None:
        await self._server.gate.quiet()
        if self._settled is not None:
            await self._settled()

    async def _turn_away(self) -> None:
        """Until nobody has come for a moment: calls that gRPC holds when it is stopped get a bare CANCELLED of it."""
        gate, seen = self._server.gate, -1
        while gate.turned_away != seen:
            seen = gate.turned_away
            await asyncio.sleep(self._moment)

    async def _wait(self, awaited: Awaitable[object], seconds: float, *, patient: bool = False) -> bool:
        """Wait for `awaited`, up to `seconds` and, unless `patient`, until there is a hurry; whether it came."""
        wanted = asyncio.ensure_future(awaited)
        others = set[asyncio.Future[object]]() if patient else {asyncio.ensure_future(self._hurry.wait())}
        try:
            await asyncio.wait({wanted, *others}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in (wanted, *others):
                future.cancel()
        if not wanted.done() or wanted.cancelled():
            return False
        error = wanted.exception()
        if error is not None:
            # What cannot be ended properly must not keep the server from ending.
            _logger.error("draining: a step failed", exc_info=error)
        return error is None

    def _tell(self) -> None:
        for tell in self.on_drain:
            try:
                tell()
            except Exception:
                _logger.exception("draining: %r failed", tell)
