"""Puts changes into groups and has each committed: the queue is drained as it stands, no timer delays who is alone.

While one group is being committed the next one gathers; among many it gathers a little longer, because every commit
costs the loop dear: the writer's thread takes the interpreter from it. Knows no database, see `Sink`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from toolwright_server.execution.store import CLAIM_SECONDS
from toolwright_server.stores.sql.change import Change, Done, Refused, Unavailable, Unkept
from toolwright_server.stores.sql.group import Outcome, Pending, Sink

_logger = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How much goes into one commit, and how long anything waits for one."""

    group_changes: int = 256
    # Of arguments and results; one change may be larger.
    group_bytes: int = 8 * 1024 * 1024
    # A change that is not kept by then fails.
    timeout_seconds: float = 5.0
    # How long a change that nobody awaits may wait for company, or for its execution's end, which replaces it.
    linger_seconds: float = 0.05
    # Changes that nobody awaits; more are dropped, and counted.
    unawaited_limit: int = 10_000
    # After a group of several the next one gathers for so many times as long as that took, and at most so long.
    rest_ratio: float = 3.0
    rest_seconds: float = 0.010
    # How long a request id stays claimed.
    claim_seconds: float = CLAIM_SECONDS


class Writer:
    """See the module. `lost` counts changes that nobody awaited and that could not be kept."""

    def __init__(self, sink: Sink, options: WriterOptions | None = None) -> None:
        self._sink = sink
        self._options = options or WriterOptions()
        self._limit = self._options.group_changes
        self._queue: deque[Pending] = deque()
        # Executions that have only begun and that nobody awaits, by id, oldest first; rendered when they are queued.
        self._lingering: dict[str, Pending] = {}
        self._unawaited = 0
        self._flying: list[Pending] = []
        self._began = 0.0
        self._scheduled = False
        self._lingers = self._watched = False
        self._closed = False
        self.lost = self.groups = self.changes = 0
        # Whether the last group could not be committed, nor any after the last that was.
        self.failing = False

    async def open(self) -> None:
        """Connect, on the running loop. Raises Unavailable."""
        self._loop = asyncio.get_running_loop()
        await self._sink.open()

    @property
    def queued(self) -> int:
        """Changes that wait for a commit."""
        return len(self._queue) + len(self._lingering) + len(self._flying)

    def submit(self, change: Change) -> "asyncio.Future[str | None]":
        """Have a change kept. The future is done once it is durable: with None, or with the id of the execution that
        holds the claim; or with Unkept. Cancelling the future cancels no change.
        """
        future: asyncio.Future[str | None] = self._loop.create_future()
        self._enqueue(self._merged(Pending(change, self._loop.time(), future)))
        self._wake()
        return future

    def submit_unawaited(self, change: Change) -> None:
        """Have a change kept some time soon. What cannot be kept is counted, said in the log, and told to `done`."""
        item = self._merged(Pending(change, self._loop.time()))
        if self._unawaited >= self._options.unawaited_limit:
            self._fail([item], Unavailable("too many changes wait for the database"))
            return
        execution = change.execution
        if execution is not None and not execution.ended and change.work is None:
            self._lingering[execution.execution_id] = item
            self._unawaited += 1
        else:
            self._enqueue(item)
        self._linger()

    async def flush(self) -> None:
        """Wait until everything that was submitted is kept or has failed."""
        self._release(self._loop.time())
        try:
            await self.submit(Change())
        except Unkept:
            pass  # Whoever awaited something was told, and the rest was counted.

    async def close(self) -> None:
        """Keep what is still waiting, then disconnect. Later changes fail."""
        while self.queued:
            await self.flush()
        self._closed = True
        await self._sink.close()

    def _merged(self, item: Pending) -> Pending:
        """The change, with what lingers of its execution: the row is newer, the rest is added."""
        if not self._lingering or item.change.execution is None:
            return item
        before = self._lingering.pop(item.change.execution.execution_id, None)
        if before is None:
            return item
        self._unawaited -= 1
        old, change = before.change, item.change
        if old.entries or old.statements:
            change.entries = (*old.entries, *change.entries)
            change.statements = (*old.statements, *change.statements)
        if old.done is not None:
            change.done = _both(old.done, change.done)
        return item

    def _enqueue(self, item: Pending) -> None:
        if self._closed:
            self._fail([item], Unavailable("the server is shutting down"))
            return
        item.render(self._options.claim_seconds)
        if item.future is None:
            self._unawaited += 1
        self._queue.append(item)

    def _wake(self) -> None:
        if not self._scheduled and not self._flying:
            self._scheduled = True
            # Whatever else is submitted in this turn of the loop comes along.
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        if self._flying or not self._queue:
            return
        self._flying = self._next()
        self._began = self._loop.time()
        self.groups += 1
        if not self._watched:
            self._watched = True
            self._loop.call_later(self._options.timeout_seconds / 4, self._watch)
        self._sink.write(self._flying, self._ended)

    def _next(self) -> list[Pending]:
        queue, group, size = self._queue, list[Pending](), 0
        while queue and len(group) < self._limit and (not group or size + queue[0].size <= self._options.group_bytes):
            item = queue.popleft()
            size += item.size
            group.append(item)
        return group

    def _ended(self, outcome: Outcome) -> None:
        group, self._flying = self._flying, []
        rest = 0.0
        if isinstance(outcome, Refused) and len(group) > 1:
            # One of them is at fault: in ever smaller groups it will be alone in the end.
            self._limit = max(1, len(group) // 2)
            self._queue.extendleft(reversed(group))
        elif isinstance(outcome, Unkept):
            self._count(group)
            self._say(outcome)
            self._fail(group, outcome)
        else:
            self._count(group)
            self._recovered()
            self._limit = min(self._options.group_changes, self._limit * 2)
            self.changes += len(group)
            for item, holder in zip(group, outcome, strict=True):
                item.resolve(holder, item.denied)
            rest = self._rest(len(group))
        if rest:
            self._scheduled = True
            self._loop.call_later(rest, self._begin)
        else:
            self._begin()

    def _rest(self, size: int) -> float:
        """How long the next group gathers, in seconds, after one of this size was kept."""
        if size == 1 or len(self._queue) >= self._limit:
            return 0.0
        return min((self._loop.time() - self._began) * self._options.rest_ratio, self._options.rest_seconds)

    def _count(self, items: Iterable[Pending]) -> None:
        if self._unawaited:
            self._unawaited -= sum(item.future is None for item in items)

    def _fail(self, items: Iterable[Pending], error: Unkept) -> None:
        lost = sum(not item.resolve(None, error) for item in items)
        if lost:
            self.lost += lost
            _logger.error("%d changes that nobody waited for were not recorded: %s", lost, error)

    def _say(self, error: Unkept) -> None:
        # Of an outage its beginning and its end: every call that it costs hears of it anyway.
        if isinstance(error, Refused):
            _logger.error("the database refused a change: %s", error)
        elif not self.failing:
            self.failing = True
            _logger.error("nothing can be recorded: %s", error)

    def _recovered(self) -> None:
        if self.failing:
            self.failing = False
            _logger.info("the database takes records again")

    def _linger(self) -> None:
        if not self._lingers:
            self._lingers = True
            self._loop.call_later(self._options.linger_seconds, self._lingered)

    def _lingered(self) -> None:
        self._lingers = False
        self._release(self._loop.time() - self._options.linger_seconds / 2)
        if self._lingering:
            self._linger()

    def _release(self, until: float) -> None:
        """Queue what lingers since before `until`, and whatever was queued without waking anybody."""
        old = [key for key, item in self._lingering.items() if item.since <= until]
        for key in old:
            self._unawaited -= 1
            self._enqueue(self._lingering.pop(key))
        if self._queue:
            self._wake()

    def _watch(self) -> None:
        """Fail what waited too long. A group that is being committed may be kept after all."""
        self._watched = False
        oldest = self._loop.time() - self._options.timeout_seconds
        late: list[Pending] = []
        while self._queue and self._queue[0].since < oldest:
            late.append(self._queue.popleft())
        self._count(late)
        slow = Unavailable(f"the database took longer than {self._options.timeout_seconds:g} s")
        self._fail(late, slow)
        self._fail(
            [item for item in self._flying if item.since < oldest and item.future is not None],
            Unavailable(str(slow), in_doubt=True),
        )
        if self._flying or self._queue:
            self._watched = True
            self._loop.call_later(self._options.timeout_seconds / 4, self._watch)


def _both(first: Done, second: Done | None) -> Done:
    def done(holder: str | None, error: Unkept | None) -> None:
        first(holder, error)
        if second is not None:
            second(holder, error)

    return done
