"""Which call gets which worker, and how many workers there are: a bounded line, spares kept warm, the dead replaced.

Never waits for a worker on behalf of a nested call longer than it takes to make one.
"""

import asyncio
import logging
import socket
from collections.abc import Callable

from toolwright_server.backends.line import Line, LineFull
from toolwright_server.backends.process.failures import busy, unavailable
from toolwright_server.backends.process.nursery import Nursery
from toolwright_server.backends.process.options import ProcessOptions
from toolwright_server.backends.process.worker import Worker
from toolwright_server.execution.backend import Work

_logger = logging.getLogger(__name__)

_BARREN_SECONDS = 0.1
_BARREN_LIMIT_SECONDS = 5.0
_RETRY_FLOOR_SECONDS = 0.05
_RETRY_CEILING_SECONDS = 30.0
# How much a new duration weighs in the average.
_WEIGHT = 0.1
# Given up for the fork server's own reasons or for housekeeping: nothing was killed.
_NO_KILL = ("", "died")
_DIED = "the worker processes have died and are being replaced"


class Pool:
    """The workers of one fork server at a time. It is the NurseryEvents' better half: the backend passes them on."""

    def __init__(self, options: ProcessOptions, on_kill: Callable[[str], None]) -> None:
        self._options = options
        self._on_kill = on_kill
        self._nursery: Nursery | None = None
        self._line: Line[Worker] = Line(options.queue_limit, self._spare)
        # Every worker that is not buried, by pid; those that can take calls or carry one; how many are on their way.
        self._all: dict[int, Worker] = {}
        self._live: set[Worker] = set()
        self._coming = 0
        self._average_seconds = _RETRY_FLOOR_SECONDS
        self._barren_seconds = _BARREN_SECONDS
        self._later: asyncio.TimerHandle | None = None
        self._full: asyncio.Future[None] | None = None

    @property
    def workers(self) -> int:
        """Workers that can take calls, or carry one."""
        return len(self._live)

    @property
    def idle(self) -> int:
        """Those of them that carry none."""
        return len(self._line.idle)

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return self._line.waiting

    def connect(self, nursery: Nursery) -> "asyncio.Future[None]":
        """Take workers from this fork server. The future is done when the pool is full for the first time."""
        self._nursery = nursery
        if self._full is None:
            self._full = asyncio.get_running_loop().create_future()
        self._refill()
        return self._full

    def disconnect(self) -> None:
        """The fork server is dead, and with it all workers: they are buried."""
        self._nursery = None
        self._coming = 0
        self._refuse_nested(_DIED)
        for worker in list(self._all.values()):
            del self._all[worker.pid]
            worker.buried(None)

    def close(self) -> None:
        """Give up every worker and refuse whoever waits."""
        # Its end ends them all: no orders to it, and no replacements.
        self._nursery = None
        self.refuse_all("the server is shutting down", _RETRY_FLOOR_SECONDS)
        for worker in list(self._all.values()):
            worker.kill("shutdown")
        if self._later is not None:
            self._later.cancel()

    async def take(self, work: Work) -> Worker:
        """A worker for the call. Raises NotSent when it may not wait, or too many do already."""
        while True:
            worker = self._line.take_idle() or await self._wait(work)
            if not worker.doomed:
                return worker

    async def _wait(self, work: Work) -> Worker:
        name = work.tool.name
        if work.nested:
            if self._nursery is None:
                raise unavailable(name, _DIED, _RETRY_FLOOR_SECONDS)
            if self._busy() + self._line.urgent >= self._options.workers + self._options.extra_workers:
                raise busy(name, "as are the extra ones for nested calls", self._estimate())
            place = self._line.join(urgent=True)
            self._refill()
            return await self._line.served(place)
        try:
            place = self._line.join()
        except LineFull:
            raise busy(name, f"and {self._line.waiting} calls wait for one", self._estimate()) from None
        return await self._line.served(place)

    def give(self, worker: Worker, seconds: float) -> None:
        """The call is over; it took so long."""
        self._average_seconds += (seconds - self._average_seconds) * _WEIGHT
        self._spare(worker)

    def _spare(self, worker: Worker) -> None:
        if worker.doomed:
            return
        if worker.calls >= self._options.calls_per_worker:
            worker.kill("recycled")
        elif not self._line.urgent and len(self._live) > self._wanted(self._busy() - 1):
            worker.kill("extra")
        else:
            self._line.offer(worker)

    def refuse_all(self, why: str, retry_delay: float) -> None:
        """There will be no workers for some time."""
        self._line.refuse(lambda: unavailable("the tool", why, retry_delay))

    def born(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        self._all[pid] = Worker(
            pid,
            pidfd,
            connection,
            self._options.payload_limit_bytes,
            on_ready=self._ready,
            on_doomed=self._doomed,
        )

    def barren(self, why: str) -> None:
        _logger.error("no worker process can be made: %s", why)
        self._coming -= 1
        self._refuse_nested(f"no worker process can be made ({why})")
        self._refill_later()

    def buried(self, pid: int, status: int | None) -> None:
        self._all.pop(pid).buried(status)

    def _ready(self, worker: Worker) -> None:
        self._coming -= 1
        self._barren_seconds = _BARREN_SECONDS
        self._live.add(worker)
        self._line.offer(worker)
        if self._full is not None and not self._full.done() and len(self._live) >= self._options.workers:
            self._full.set_result(None)

    def _doomed(self, worker: Worker, reason: str) -> None:
        if reason not in _NO_KILL:
            self._on_kill(reason)
        was_live = worker in self._live
        self._live.discard(worker)
        if worker in self._line.idle:
            self._line.idle.remove(worker)
        if self._nursery is None:
            return
        self._nursery.kill(worker.pid)
        if was_live:
            self._refill()
        else:
            _logger.error("a worker process died before it was ready; see its standard error")
            self._coming -= 1
            self._refill_later()

    def _refuse_nested(self, why: str) -> None:
        self._line.refuse(lambda: unavailable("the tool", why, _RETRY_FLOOR_SECONDS), only_urgent=True)

    def _busy(self) -> int:
        return len(self._live) - len(self._line.idle)

    def _wanted(self, busy_workers: int) -> int:
        return max(self._options.workers, busy_workers + self._line.urgent)

    def _refill(self) -> None:
        if self._nursery is None or self._later is not None:
            return
        for _ in range(self._wanted(self._busy()) - len(self._live) - self._coming):
            self._coming += 1
            self._nursery.fork()

    def _refill_later(self) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(self._barren_seconds, self._refill_now)
            self._barren_seconds = min(2 * self._barren_seconds, _BARREN_LIMIT_SECONDS)

    def _refill_now(self) -> None:
        self._later = None
        self._refill()

    def _estimate(self) -> float:
        waits = self._average_seconds * (self._line.waiting + 1) / self._options.workers
        return min(max(waits, _RETRY_FLOOR_SECONDS), _RETRY_CEILING_SECONDS)
