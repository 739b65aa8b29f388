"""How many servers share the store: each says again and again that it is there. Decides nothing for anybody."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from toolwright_server.stores.redis.link import Link
from toolwright_server.stores.redis.scripts import SERVERS, evaluated
from toolwright_server.stores.redis.session import SERVERS_KEY

# A word holds for so many intervals: one may be late.
_HOLDS: Final = 3


class Servers:
    """`count` is the most that was seen of late; it stays while the store is gone, when it is needed.

    A store that was restarted knows of nobody until everybody has said that it is there: if it is gone again before,
    and however often that happens, no server may take itself for the only one. So fewer than before are believed only
    when as many words as hold have been answered over one connection.
    """

    def __init__(
        self,
        link: Callable[[bytes], Link],
        name: str,
        interval_seconds: float,
        *,
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._link = link
        self._name = name.encode()
        self._interval_seconds = interval_seconds
        self._pause = pause
        self._task: asyncio.Task[None] | None = None
        # Before the present connection, and over it.
        self._before = 1
        self._seen: deque[int] = deque(maxlen=_HOLDS)
        self._connection: tuple[Link, int] | None = None

    @property
    def count(self) -> int:
        """At least 1."""
        return max(self._seen) if len(self._seen) == _HOLDS else max((self._before, *self._seen))

    def start(self) -> None:
        """Say it from now on."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="limit store servers")

    async def say(self) -> None:
        """Say once that this server is there, and see how many are."""
        link = self._link(SERVERS_KEY)
        waiting = link.ask(self._command(b"0"))
        answer = await waiting if waiting is not None else None
        if isinstance(answer, int):
            self._heard(answer, (link, link.connections))

    def _heard(self, count: int, connection: tuple[Link, int]) -> None:
        if connection != self._connection:
            self._before = self.count
            self._seen.clear()
            self._connection = connection
        self._seen.append(max(1, count))

    async def close(self) -> None:
        """Leave."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        self._link(SERVERS_KEY).tell(self._command(b"1"), 0.0)

    async def _keep(self) -> None:
        while True:
            await self.say()
            await self._pause(self._interval_seconds)

    def _command(self, leaves: bytes) -> bytes:
        lasts = b"%d" % round(_HOLDS * self._interval_seconds * 1_000_000)
        return evaluated(SERVERS, [SERVERS_KEY], (lasts, self._name, leaves))
