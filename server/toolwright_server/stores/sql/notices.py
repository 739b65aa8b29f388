"""Hears what the servers of one PostgreSQL tell each other with notifying.py. What was changed is looked up anew.

Notices are lost with a connection, so that whoever listens is also woken whenever there is a new one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.stores.sql.engine import DatabaseOptions, postgres_engine
from toolwright_server.stores.sql.notifying import CHANNEL

_logger = logging.getLogger(__name__)

# After a connection was lost, or was not to be had.
_RETRY_SECONDS: Final = 2.0
# A connection that a firewall has forgotten looks like one on which nothing happens.
_PROBE_SECONDS: Final = 30.0


class PostgresNotices:
    """Listens on a connection of its own, and goes on trying when it is lost."""

    def __init__(self, options: DatabaseOptions) -> None:
        self._engine = postgres_engine(options, 1)
        self._wakes: dict[str, list[Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self.connected = False

    def listen(self, topic: str, wake: Callable[[], None]) -> None:
        """See freshness.Listen."""
        self._wakes.setdefault(topic, []).append(wake)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.create_task(self._run(), name="notices")

    async def close(self) -> None:
        """Hear nothing any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._engine.dispose()

    async def _run(self) -> None:
        while True:
            try:
                await self._heard_until_lost()
            except (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError):
                _logger.debug("the connection for notices was lost", exc_info=True)
            except Exception:
                _logger.exception("the connection for notices broke off")
            self.connected = False
            await asyncio.sleep(_RETRY_SECONDS)

    async def _heard_until_lost(self) -> None:
        async with self._engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            lost = asyncio.Event()

            def ended(_: Any) -> None:
                lost.set()

            raw.add_termination_listener(ended)
            await raw.add_listener(CHANNEL, self._told)
            try:
                self.connected = True
                self._wake_all()
                while not await _set_within(lost, _PROBE_SECONDS):
                    await raw.execute("SELECT 1")
            finally:
                # Back in the pool it would be another's, with our listener on it.
                await connection.invalidate()

    def _told(self, connection: Any, pid: int, channel: str, topic: str) -> None:
        del connection, pid, channel
        for wake in self._wakes.get(topic, ()):
            wake()

    def _wake_all(self) -> None:
        for wakes in self._wakes.values():
            for wake in wakes:
                wake()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
