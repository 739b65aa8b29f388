"""Waits for executions that run on other servers: one query per tick for all who wait, however many they are.

Ticks are 10 ms apart while somebody has just begun to wait and grow to 250 ms. Runs only while somebody waits.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from toolwright_server.errors import ToolwrightError
from toolwright_server.execution.model import Execution

_logger = logging.getLogger(__name__)

SHORTEST_SECONDS: Final = 0.010
LONGEST_SECONDS: Final = 0.250
_GROWTH: Final = 1.5

# Those of the executions that have ended. Raises STORE_UNAVAILABLE.
Ended = Callable[[Sequence[str]], Awaitable[Sequence[Execution]]]


class Joining:
    """See the module. `queries` counts how often the store was asked; `interval_seconds` is the time to the next."""

    def __init__(
        self, ended: Ended, *, shortest_seconds: float = SHORTEST_SECONDS, longest_seconds: float = LONGEST_SECONDS
    ) -> None:
        self._ended = ended
        self._shortest = shortest_seconds
        self._longest = longest_seconds
        self.interval_seconds = shortest_seconds
        self._clock = time.monotonic
        self._waiting: dict[str, set[asyncio.Future[Execution]]] = {}
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.queries = 0

    @property
    def waiting(self) -> int:
        """How many executions are waited for."""
        return len(self._waiting)

    @property
    def asking(self) -> bool:
        """Whether questions are being asked."""
        return self._task is not None

    async def ended(self, execution_id: str) -> Execution:
        """Wait until an execution has ended; without end if it never does: the caller's deadline is the bound."""
        future: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(execution_id, set())
        waiters.add(future)
        self.interval_seconds = self._shortest
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._poll(), name="joining")
        else:
            self._hurry.set()
        try:
            return await future
        finally:
            waiters.discard(future)
            if not waiters and self._waiting.get(execution_id) is waiters:
                del self._waiting[execution_id]
                self._hurry.set()

    async def close(self) -> None:
        """Stop asking. Whoever still waits is cancelled."""
        for waiters in tuple(self._waiting.values()):
            for future in tuple(waiters):
                future.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _poll(self) -> None:
        try:
            while self._waiting:
                await self._look()
                await self._rest()
        except Exception as error:
            # A defect of ours: nobody waits in vain for it.
            _logger.exception("executions on other servers could not be looked at")
            for future in [future for waiters in self._waiting.values() for future in waiters if not future.done()]:
                future.set_exception(error)
        finally:
            self._task = None

    async def _look(self) -> None:
        self.queries += 1
        try:
            found = await self._ended(tuple(self._waiting))
        except ToolwrightError as error:
            self.interval_seconds = self._longest
            _logger.warning("executions on other servers cannot be looked at: %s", error)
            return
        for execution in found:
            for future in self._waiting.pop(execution.execution_id, ()):
                if not future.done():
                    future.set_result(execution)

    async def _rest(self) -> None:
        """Wait for the next tick, which comes sooner when somebody new begins to wait."""
        looked = self._clock()
        while self._waiting and (left := looked + self.interval_seconds - self._clock()) > 0:
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._hurry.wait()
        self.interval_seconds = min(self._longest, self.interval_seconds * _GROWTH)
