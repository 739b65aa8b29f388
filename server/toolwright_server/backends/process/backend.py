"""Runs synchronous functions in killable worker processes: see docs/workers.md. Kills are confirmed, not assumed."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable

from toolwright_server.backends.forked.plan import Bootstrap, WorkerLimits
from toolwright_server.backends.process.failures import unavailable
from toolwright_server.backends.process.nursery import Nursery, Unfit, python_path
from toolwright_server.backends.process.options import ProcessOptions
from toolwright_server.backends.process.pool import Pool
from toolwright_server.backends.process.worker import Unread
from toolwright_server.catalog.discovery import LoadPlan
from toolwright_server.errors import SettingsError
from toolwright_server.execution.backend import Work
from toolwright_server.execution.model import Stopped

_logger = logging.getLogger(__name__)

# A worker may die, idle, in the moment in which it is given a call; that is no reason to fail.
_TRIES = 3
_RESTART_SECONDS = 0.1
_RESTART_LIMIT_SECONDS = 30.0
# A fork server that lived so long did not die of its start.
_STABLE_SECONDS = 10.0
_START_SECONDS = 60.0
_DOWN = "worker processes cannot be started at the moment"


def _ignore(reason: str) -> None:
    """Nobody counts."""


class ProcessBackend:
    """`spawn` before gRPC and the event loop, `await start` on it, then `run`; `await close` leaves nobody alive.

    `on_kill` gets the reason of every kill: deadline, cancelled, output, memory, garbage, threads, recycled, ...
    """

    unconfirmed = Stopped.UNKNOWN

    def __init__(self, options: ProcessOptions, plan: LoadPlan, *, on_kill: Callable[[str], None] = _ignore) -> None:
        self._options = options
        self._plan = plan
        self._pool = Pool(options, on_kill)
        self._nursery: Nursery | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._down_for: float | None = None
        self._closed = False

    @property
    def workers(self) -> int:
        """Worker processes that can take a call or carry one."""
        return self._pool.workers

    @property
    def idle(self) -> int:
        """Those of them that carry none."""
        return self._pool.idle

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return self._pool.queued

    @property
    def fork_server_pid(self) -> int | None:
        """The fork server's process id; None while there is none."""
        return self._nursery.pid if self._nursery is not None else None

    def spawn(self) -> None:
        """Start the fork server. Raises OSError when it cannot be started at all."""
        self._nursery = self._spawned()

    async def start(self) -> None:
        """Wait until the tools are loaded there and all workers are ready. Raises SettingsError."""
        assert self._nursery is not None, "spawn comes before start"
        try:
            await self._nursery.attach(self)
        except Unfit as error:
            raise SettingsError(
                f"worker processes cannot load the tools: {error}. They see only harmless environment variables: "
                "name what the tools need in process_environment"
            ) from None
        full = self._pool.connect(self._nursery)
        await asyncio.wait((full,), timeout=_START_SECONDS)
        if not full.done():
            raise SettingsError(
                f"only {self.workers} of {self._options.workers} worker processes were ready after "
                f"{_START_SECONDS:g} s: see the log, raise the limits of processes and memory, or lower process_workers"
            )

    async def close(self) -> None:
        """Kill every worker, end the fork server, and wait until nobody is left. Calls that run are lost."""
        self._closed = True
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait((self._restarting,))
        self._pool.close()
        if self._nursery is not None:
            await self._nursery.close()
            self._nursery = None
        self._pool.disconnect()

    async def run(self, work: Work) -> bytes:
        """As the Protocol says. A call that is cancelled while it waits for a worker was never started."""
        started = False
        for _ in range(_TRIES):
            if self._closed:
                raise unavailable(work.tool.name, "the server is shutting down", _RESTART_SECONDS)
            if self._down_for is not None:
                raise unavailable(work.tool.name, _DOWN, self._down_for)
            worker = await self._pool.take(work)
            if not started:
                work.reporter.started()
                started = True
            began = time.monotonic()
            try:
                return await worker.carry(work)
            except Unread:
                continue
            finally:
                self._pool.give(worker, time.monotonic() - began)
        raise unavailable(work.tool.name, "worker processes die before they read their calls", 1.0)

    def born(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        self._pool.born(pid, pidfd, connection)

    def barren(self, why: str) -> None:
        self._pool.barren(why)

    def buried(self, pid: int, status: int) -> None:
        self._pool.buried(pid, status)

    def lost(self) -> None:
        """The fork server died: its workers with it. Another one takes its place."""
        assert self._nursery is not None
        lived = time.monotonic() - self._nursery.spawned_at
        _logger.error("the fork server died; calls that ran in its workers are lost, and another one is started")
        self._nursery = None
        self._pool.disconnect()
        if not self._closed:
            self._restarting = asyncio.get_running_loop().create_task(self._restart(lived))

    async def _restart(self, lived_seconds: float) -> None:
        pause = 0.0 if lived_seconds > _STABLE_SECONDS else _RESTART_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                # On the loop: it takes some milliseconds, and nothing is left over should `close` come meanwhile.
                self._nursery = nursery = self._spawned()
                await nursery.attach(self)
            except (Unfit, OSError) as error:
                self._nursery = None
                pause = min(max(2 * pause, _RESTART_SECONDS), _RESTART_LIMIT_SECONDS)
                _logger.error("no fork server can be started; trying again in %.1f s: %s", pause, error)  # noqa: TRY400
                self._down_for = pause
                self._pool.refuse_all(_DOWN, pause)
            else:
                self._down_for = None
                self._pool.connect(nursery)
                return

    def _spawned(self) -> Nursery:
        options = self._options
        order = Bootstrap(
            plan=self._plan,
            limits=WorkerLimits(options.memory_limit_bytes, options.nice, options.payload_limit_bytes),
            path=python_path(self._plan.folder),
            server_pid=os.getpid(),
        )
        nursery = Nursery()
        nursery.spawn(order, options.visible(os.environ))
        return nursery
