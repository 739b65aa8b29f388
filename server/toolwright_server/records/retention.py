"""Deletes what is older than its kind of data may be kept: in small commits, oldest first, again and again.

Knows neither tables nor databases: each rule brings the function that erases. What is erased, and the entry in the
audit trail that says so, are one commit of that function's.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from toolwright_server.errors import ToolwrightError
from toolwright_server.records.audit.pruning import NotPrunable

_logger = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400.0
# Entries that go in one commit: calls wait for no more than that.
BATCH: Final = 500

# Erases at most so many of the oldest entries that ended before a time (seconds since the epoch), in one commit, and
# answers how many it erased; fewer than it might means that none is left. Raises ToolwrightError or NotPrunable.
Erase = Callable[[float, int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Rule:
    """How long one kind of data is kept. `days` 0: for ever."""

    kind: str
    days: float
    erase: Erase


class Retention:
    """Applies rules, one after the other. `erased` counts by kind since the start."""

    def __init__(
        self,
        rules: Sequence[Rule],
        interval_seconds: float,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        batch: int = BATCH,
    ) -> None:
        self._rules = tuple(rule for rule in rules if rule.days)
        self._interval = interval_seconds
        self._clock = clock
        self._pause = pause
        self._batch = batch
        self._erased = {rule.kind: 0 for rule in self._rules}
        self._task: asyncio.Task[None] | None = None

    @property
    def erased(self) -> Mapping[str, int]:
        """How many entries of each kind were erased by this server."""
        return self._erased

    def start(self) -> None:
        """Apply the rules now and after every interval, until `close`. Does nothing when all is kept for ever."""
        if self._rules:
            self._task = asyncio.get_running_loop().create_task(self._keep_on(), name="retention")

    async def close(self) -> None:
        """End between two commits; the one that goes on is waited for by the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def run(self) -> None:
        """Apply every rule once. What the store cannot do now is left for the next time, and said in the log."""
        for rule in self._rules:
            before = self._clock() - rule.days * DAY_SECONDS
            try:
                count = await self._applied(rule, before)
            except (ToolwrightError, NotPrunable) as error:
                _logger.warning("%s older than %g days could not be erased: %s", rule.kind, rule.days, error)
                continue
            except Exception:
                # A defect in one kind must not let all data grow without end.
                _logger.exception("erasing %s older than %g days failed", rule.kind, rule.days)
                continue
            if count:
                _logger.info("erased %d %s older than %g days", count, rule.kind, rule.days)

    async def _applied(self, rule: Rule, before: float) -> int:
        total = 0
        while True:
            count = await rule.erase(before, self._batch)
            total += count
            self._erased[rule.kind] += count
            if count < self._batch:
                return total

    async def _keep_on(self) -> None:
        while True:
            await self.run()
            await self._pause(self._interval)
