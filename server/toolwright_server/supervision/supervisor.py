"""The supervisor: keeps the port, starts the processes, replaces them, and ends them all when it is told to.

One process is started alone at first: what cannot be right is then said once, by that process, and what is made at a
first start (tables, keys, secrets) is made by one.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolwright_server.backends.process.nursery import python_path
from toolwright_server.rpc.ports import Reservation
from toolwright_server.settings import Settings
from toolwright_server.supervision.backoff import Backoff, BackoffOptions
from toolwright_server.supervision.order import ProcessOrder, part_of
from toolwright_server.supervision.process import ServerProcess, said
from toolwright_server.supervision.slot import Slot
from toolwright_server.supervision.whole import Whole
from toolwright_server.telemetry.http import TelemetryHttp
from toolwright_server.telemetry.logs import configure_logging

_logger = logging.getLogger(__name__)

EXIT_FAILED = 1
# What processes had counted since they were asked is lost when one is killed: so they are asked now and then.
_REFRESH_SECONDS = 5.0
# What a drain may take beyond its two times: last words, the record, the exporter. Afterwards it hangs.
_CLOSING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """`command`: what Python runs as a process of the server; its name and the descriptor of its link are added."""

    command: Sequence[str]
    backoff: BackoffOptions = field(default_factory=BackoffOptions)
    closing_seconds: float = _CLOSING_SECONDS


def supervise(settings: Settings, options: SupervisorOptions) -> int:
    """Run the server with `settings.workers` processes until it is drained; the exit code.

    Raises SettingsError for what cannot be right. What a process finds to be wrong it says itself: then its exit code
    is returned.
    """
    return asyncio.run(_supervised(settings, options))


async def _supervised(settings: Settings, options: SupervisorOptions) -> int:
    configure_logging(settings.log_format, settings.log_level)
    whole = Whole(asyncio.get_running_loop())
    page = TelemetryHttp(settings.http_listen, metrics=whole.metrics, health=whole.health)
    reserved = _reserved(settings)
    try:
        if settings.http_listen:
            page.start()
        own = {name: each.address for name, each in reserved.items()}
        return await Supervisor(settings.model_copy(update=own), options, whole).run()
    finally:
        await asyncio.to_thread(page.close)
        for each in reserved.values():
            each.close()


def _reserved(settings: Settings) -> dict[str, Reservation]:
    names = ("listen", "tls_client_listen") if settings.tls_client_listen else ("listen",)
    return {name: Reservation.make(getattr(settings, name)) for name in names}


class Supervisor:
    """See the module. The addresses among `settings` are reserved."""

    def __init__(self, settings: Settings, options: SupervisorOptions, whole: Whole) -> None:
        self._settings = settings
        self._options = options
        self._whole = whole
        self._path = python_path(str(Path.cwd()))
        self._told = asyncio.Event()
        self._slots = [self._slot(number) for number in range(1, settings.workers + 1)]

    async def run(self) -> int:
        """Until all processes are drained; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        self._whole.slots = self._slots
        pilot = self._slots[0].start()
        await asyncio.wait((pilot.ready, pilot.ended), return_when=asyncio.FIRST_COMPLETED)
        if not pilot.ready.done():
            return self._never_served(pilot)
        running = [loop.create_task(slot.run()) for slot in self._slots]
        _logger.info("%d server processes share %s", len(self._slots), pilot.address)
        refreshing = loop.create_task(self._refresh())
        try:
            await self._told.wait()
            return await self._drained(running)
        finally:
            refreshing.cancel()

    def _never_served(self, pilot: ServerProcess) -> int:
        code = pilot.ended.result()
        if code < 0:
            _logger.error("the first server process %s before it served; no other one is started", said(code))
        if self._told.is_set():
            return 0
        return code if code > 0 else EXIT_FAILED

    async def _drained(self, running: Sequence[asyncio.Task[int | None]]) -> int:
        failed = [code for code in await asyncio.gather(*running) if code]
        for code in failed:
            _logger.error("a server process was to drain, and %s", said(code))
        return EXIT_FAILED if failed else 0

    def _end(self) -> None:
        """SIGTERM or SIGINT: drain; at the second one, hurry."""
        if self._told.is_set():
            _logger.info("hurrying all server processes")
        else:
            _logger.info("draining all server processes")
            settings = self._settings
            seconds = settings.drain_notice_seconds + settings.drain_grace_seconds + self._options.closing_seconds
            asyncio.get_running_loop().call_later(seconds, self._overdue, seconds)
        self._told.set()
        for slot in self._slots:
            slot.end()

    def _overdue(self, seconds: float) -> None:
        _logger.error("server processes have not ended %g s after they were told to: they are killed", seconds)
        for slot in self._slots:
            slot.kill()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await self._whole.refresh()

    def _slot(self, number: int) -> Slot:
        order = ProcessOrder(number, part_of(self._settings, number), os.getpid(), self._path)
        return Slot(lambda: ServerProcess(order, self._options.command), Backoff(self._options.backoff), self._whole)
