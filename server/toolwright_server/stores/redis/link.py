"""One connection to the store, kept: what queues while a round trip is under way goes together in the next one.

Whoever asks waits a bounded time, whatever the store does. One that is gone or slow costs nothing: it is not asked any
more until it answers, which is seen in the background. Knows nothing of what the commands are for.
"""

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import MovedError, ResponseError

from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.asking import Ask, Late, Patience, Timings
from toolwright_server.stores.redis.scripts import in_full
from toolwright_server.stores.redis.session import Broken, Session, UnableError, is_forgotten, word_of

_logger = logging.getLogger(__name__)

# Commands in one round trip.
_BATCH: Final = 128
# Commands that wait for the store to come back; then the oldest go. Their places end with their leases.
_OWED: Final = 10_000

Changed = Callable[[bool, str], None]
Moved = Callable[[Ask, MovedError], None]


class Link:
    """See the module. `changed` is told whenever the store can be asked again, or no more, and why."""

    def __init__(
        self,
        address: Address,
        timings: Timings,
        *,
        changed: Changed,
        moved: Moved | None = None,
        round_trip: Callable[[float], None] | None = None,
        pause: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self.address = address
        self._timings = timings
        self._changed = changed
        self._moved = moved
        self._round_trip = round_trip
        self._pause = pause
        self.is_up = False
        self.timeouts = 0
        self.connections = 0
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Ask] = deque()
        self._sent: deque[Ask] = deque()
        self._waiting: deque[Ask] = deque()
        self._owed: deque[Ask] = deque(maxlen=_OWED)
        self._patience = Patience(self._loop, timings, self._judge)
        # Since when, on its silent clock, something is under way, or there is no connection, without an answer.
        self._silent_since: float | None = None
        self._idle: asyncio.Future[None] | None = None
        self._identity: tuple[bytes, bytes] | None = None
        self._closing = False
        self._failures = 0
        # The present connection has answered.
        self._worked = False
        self._refusals: set[str] = set()
        self._settled = asyncio.Event()
        self._task = self._loop.create_task(self._run(), name="limit store")

    async def settled(self) -> None:
        """Wait until it is known whether the store can be asked; bounded by the time that connecting may take."""
        await self._settled.wait()

    def ask(self, command: bytes, late: Late | None = None) -> "asyncio.Future[Any] | None":
        """Send a command. The future becomes the answer, or None when it is late; None at once: the store is down."""
        if not self.is_up or self._closing:
            return None
        ask = Ask(command, math.inf, self._loop.create_future(), late)
        ask.patience = self._patience.begin()
        self.put(ask)
        return ask.future

    def put(self, ask: Ask) -> None:
        """Send on what another node of the cluster had been asked for."""
        if ask.future is not None:
            self._waiting.append(ask)
            self._patience.begin()
        self._queue.append(ask)
        self._wake()

    def tell(self, command: bytes, lasts_seconds: float, answered: Late | None = None, *, once: bool = False) -> None:
        """Send a command whose answer nobody waits for, now or, within `lasts_seconds`, when the store is back.

        `answered` is told the answer, should there be one. `once`: better lost than done twice.
        """
        ask = Ask(command, self._loop.time() + lasts_seconds, None, answered, once=once)
        if self.is_up:
            self._queue.append(ask)
            self._wake()
        else:
            self._owed.append(ask)

    async def close(self) -> None:
        """Send what is to be sent, if the store takes it within its time, and end."""
        self._closing = True
        self._wake()
        if self.is_up:
            await asyncio.wait((self._task,), timeout=self._timings.slow_seconds)
        self._task.cancel()
        await asyncio.wait((self._task,))
        self.is_up = False
        for ask in (*self._sent, *self._queue, *self._waiting):
            ask.give_up()
        self._patience.end()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _run(self) -> None:
        while not self._closing or self._queue:
            try:
                await self._live()
            except Broken as error:
                self._broken(word_of(error), unable=isinstance(error, UnableError))
            except Exception:
                _logger.exception("a defect in the link to the limit store")
                self._broken("defect", unable=True)
            if self._closing:
                return
            if not self.is_up:
                await self._pause(self._backoff())

    def _backoff(self) -> float:
        longest = self._timings.longest_pause_seconds
        pause = min(longest, self._timings.first_pause_seconds * 2 ** min(self._failures, 16))
        self._failures += 1
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads servers, protects nothing

    async def _live(self) -> None:
        """One connection from its beginning to its end."""
        if self._silent_since is None:
            self._silent_since = self._patience.silent
        dead = self._timings.dead_seconds
        self.connections += 1
        try:
            async with asyncio.timeout(dead):
                session = await Session.open(self.address, dead, self._identity)
        except Broken as error:
            # The first try after a connection broke may still have found the store back.
            self._down(word_of(error))
            raise
        self._identity, self._worked = session.identity, False
        try:
            self._up()
            while await self._has_work():
                batch = self._next_batch()
                if batch:
                    async with asyncio.timeout(dead):
                        await self._exchange(session, batch)
                    self._failures, self._worked = 0, True
                    self._up()
        finally:
            await session.close()

    async def _has_work(self) -> bool:
        if not self._queue:
            if self._closing:
                return False
            self._idle = self._loop.create_future()
            await self._idle
            self._idle = None
        return bool(self._queue) or not self._closing

    def _next_batch(self) -> deque[Ask]:
        batch, queue = self._sent, self._queue
        while queue and len(batch) < _BATCH:
            ask = queue.popleft()
            if ask.is_wanted:
                batch.append(ask)
            else:
                ask.lose()
        return batch

    async def _exchange(self, session: Session, batch: deque[Ask]) -> None:
        """One round trip; a second one for what the store had forgotten how to do."""
        began, self._silent_since = self._loop.time(), self._patience.silent
        await session.send([ask.command for ask in batch])
        forgotten: list[Ask] = []
        while batch:
            answer = await session.receive()
            ask = batch.popleft()
            self._silent_since = self._patience.silent
            self._patience.heard()
            if is_forgotten(answer):
                forgotten.append(ask)
            else:
                self._answered(ask, answer)
        self._silent_since = None
        if self._round_trip is not None:
            self._round_trip(self._loop.time() - began)
        for ask in forgotten:
            ask.command = in_full(ask.command)
        self._queue.extendleft(reversed(forgotten))

    def _answered(self, ask: Ask, answer: Any) -> None:
        if not isinstance(answer, ResponseError):
            ask.answered(answer)
        elif self._moved is not None and isinstance(answer, MovedError):
            self._moved(ask, answer)
        else:
            # Nothing was done: scripts look before they write.
            ask.give_up()
            word = word_of(answer)
            if word not in self._refusals:
                self._refusals.add(word)
                _logger.error("the limit store at %s refuses commands: %s", self.address.where, word)

    def _judge(self, patience: Patience) -> bool:
        """Let those go whose time is over. Whether anybody, or the judgement of the store, waits on."""
        waiting = self._waiting
        while waiting and (patience.is_over(waiting[0]) or not waiting[0].is_wanted):
            ask = waiting.popleft()
            self.timeouts += ask.is_wanted
            ask.give_up()
        since = self._silent_since
        if since is not None and patience.silent - since >= self._timings.slow_seconds:
            self._down("no answer")
        return bool(waiting) or (since is not None and self.is_up)

    def _up(self) -> None:
        self._silent_since = None
        if not self.is_up:
            self.is_up = True
            self._settled.set()
            now = self._loop.time()
            self._queue.extendleft(ask for ask in reversed(self._owed) if ask.deadline > now)
            self._owed.clear()
            self._changed(True, "")

    def _down(self, why: str) -> None:
        was_up, self.is_up = self.is_up, False
        for ask in self._waiting:
            ask.give_up()
        self._waiting.clear()
        if was_up or not self._settled.is_set():
            self._settled.set()
            self._changed(False, why)

    def _broken(self, why: str, *, unable: bool) -> None:
        """The connection is gone: what was sent is sent again over the next one, or is in doubt."""
        sent = list(self._sent)
        self._sent.clear()
        for ask in sent:
            ask.in_doubt = True
            if ask.once:
                ask.lose()
        self._queue.extendleft(ask for ask in reversed(sent) if not ask.once)
        # One that has worked is made again at once: its server may only have been restarted.
        if unable or not self._worked:
            self._down(why)
        if self.is_up:
            return
        left, self._queue = self._queue, deque()
        for ask in left:
            if ask.future is None:
                self._owed.append(ask)
            else:
                ask.lose()
