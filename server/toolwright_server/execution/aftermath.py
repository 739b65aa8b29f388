"""Work that went on after its execution was settled: named, and the record corrected when its end is seen."""

import asyncio
import logging
import time

from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Stopped
from toolwright_server.execution.store import ExecutionStore
from toolwright_server.telemetry import Metrics

_logger = logging.getLogger(__name__)


class Aftermath:
    """Holds such work until it ends."""

    def __init__(self, store: ExecutionStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._work: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._work)

    def watch(self, flight: Flight, work: "asyncio.Task[None]", stopped: Stopped) -> None:
        """Follow `work`, which was told to stop and has not been seen to end."""
        task = asyncio.get_running_loop().create_task(self._follow(flight, work, stopped))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _follow(self, flight: Flight, work: "asyncio.Task[None]", stopped: Stopped) -> None:
        tool, execution_id = flight.execution.tool, flight.execution.execution_id
        told = time.monotonic()
        if stopped is Stopped.NO:
            self._metrics.stubborn_tool(tool)
            _logger.warning("%s cannot be stopped and goes on (execution %s)", tool, execution_id)
        await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()  # whatever it was, nobody waits for it any more
        if stopped is Stopped.UNKNOWN:
            # Only a confirmed stop corrects the record: what ended by itself was not stopped.
            await flight.ended(None)
            await self._store.correct(execution_id, Stopped.YES)
        else:
            seconds = time.monotonic() - told
            _logger.warning("%s ended %.3f s after it was told to (execution %s)", tool, seconds, execution_id)
