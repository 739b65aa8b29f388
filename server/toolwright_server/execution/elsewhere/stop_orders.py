"""Orders to stop an execution that runs on another server: left in the record, found there by the one that runs it.

Only servers that share a database have any. An order says nothing about whether the work stopped: its row does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from toolwright_server.errors import ToolwrightError
from toolwright_server.execution.model import Execution

_logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 0.25


class StopOrderStore(Protocol):
    """Keeps orders until they are obeyed. Raises STORE_UNAVAILABLE."""

    async def give(self, execution: Execution) -> None:
        """Leave an order for the server that runs the execution, durably; twice is once."""
        ...

    async def waiting(self, server_id: str) -> Sequence[str]:
        """The executions that this server is to stop."""
        ...

    async def done(self, execution_ids: Sequence[str]) -> None:
        """These orders were obeyed, or came too late."""
        ...


class StopOrders:
    """Looks for orders to `server_id` now and then. `pause` waits for so many seconds, for tests."""

    def __init__(
        self,
        store: StopOrderStore,
        server_id: str,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._server_id = server_id
        self._interval = interval_seconds
        self._pause = pause
        self._task: asyncio.Task[None] | None = None
        self._silent = False

    async def give(self, execution: Execution) -> None:
        """Have an execution stopped by the server that runs it, at its next look. Raises STORE_UNAVAILABLE."""
        await self._store.give(execution)

    def start(self, stop: Callable[[str], object]) -> None:
        """Look from now on; `stop` tells one execution of this server to stop, and ignores ids that it does not run."""
        self._task = asyncio.get_running_loop().create_task(self._watch(stop), name="stop orders")

    async def close(self) -> None:
        """Look no more. Orders that come later are found by nobody: what runs here is stopped by the drain."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def look(self, stop: Callable[[str], object]) -> None:
        """Look once, and obey."""
        found = await self._store.waiting(self._server_id)
        if found:
            for execution_id in found:
                stop(execution_id)
            await self._store.done(found)

    async def _watch(self, stop: Callable[[str], object]) -> None:
        while True:
            try:
                await self.look(stop)
                self._silent = False
            except ToolwrightError as error:
                # Once per outage: it looks again four times a second.
                if not self._silent:
                    _logger.warning("orders to stop executions cannot be looked for: %s", error)
                self._silent = True
            except Exception:
                _logger.exception("a look for orders to stop executions failed")
            await self._pause(self._interval)
