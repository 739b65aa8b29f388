"""How a change that one server of a database makes reaches the others: they are told where the database can tell
(PostgreSQL does), and look by themselves every other second in any case. Knows nothing of what changes.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from toolwright_server.errors import ToolwrightError

_logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
# Without an answer for so long, what is in memory may have changed anywhere.
BLIND_SECONDS: Final = 60.0

Listen = Callable[[str, Callable[[], None]], None]
"""Has the second called, on the event loop, when any server has committed a change to what the first names. May call
it without need, and may miss a change: looking is what holds.
"""


def deaf(topic: str, wake: Callable[[], None]) -> None:
    """A Listen of databases that tell nothing."""
    del topic, wake


class Freshness:
    """Looks for changes. `look` raises ToolwrightError when the store does not answer; `blind` is called after a minute
    of that, at each look. `what` is for the log; `clock` counts seconds.
    """

    def __init__(
        self,
        what: str,
        look: Callable[[], Awaitable[None]],
        blind: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._look = look
        self._blind = blind
        self._clock = clock
        self._answered = clock()
        self._told = asyncio.Event()

    @property
    def age(self) -> float:
        """Seconds since the store last answered."""
        return self._clock() - self._answered

    def wake(self) -> None:
        """Something has changed: look at once."""
        self._told.set()

    async def look(self) -> None:
        """Look once. A store that does not answer is no error."""
        now = self._clock()
        try:
            await self._look()
        except ToolwrightError:
            if now - self._answered > BLIND_SECONDS:
                self._blind()
            return
        self._answered = now

    async def watch(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        """Look until cancelled."""
        while True:
            # Before the look: what is told while it is under way, it may not have seen.
            self._told.clear()
            try:
                await self.look()
            except Exception:
                # A defect here must not leave what was changed in force for good.
                _logger.exception("%s could not be looked up", self._what)
                self._blind()
            try:
                async with asyncio.timeout(interval_seconds):
                    await self._told.wait()
            except TimeoutError:
                pass
