"""Keeps callers from piling up before a database that has just failed: they are refused at once, and one tries.

Never decides that a database is gone: only a change that was not kept does.
"""

import time
from collections.abc import Callable
from typing import Final

from toolwright_server.errors import Reason, ToolwrightError

FIRST_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 5.0
_GROWTH: Final = 2.0


class Breaker:
    """Closed until a change is not kept; then open for a pause that doubles with each try that fails."""

    def __init__(
        self,
        *,
        first_seconds: float = FIRST_SECONDS,
        longest_seconds: float = LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._clock = clock
        # None: closed.
        self._until: float | None = None
        self._pause = first_seconds
        # Somebody was let through to try.
        self._trying = False
        self.refused = 0

    @property
    def is_open(self) -> bool:
        """Whether trying would be in vain at this moment, as far as is known."""
        return self._until is not None and self._clock() < self._until

    def check(self) -> None:
        """Let a call pass, or raise STORE_UNAVAILABLE with the time of the next try. Whoever passes while it was open
        tries for all: the others go on being refused until it is known what came of it.
        """
        if self._until is None:
            return
        now = self._clock()
        if now < self._until:
            self.refused += 1
            raise ToolwrightError(
                Reason.STORE_UNAVAILABLE,
                "the call cannot be recorded at the moment",
                metadata={"outcome": "not_started"},
                retry_delay=self._until - now,
            )
        # Until then its outcome is known, or somebody else may try.
        self._until = now + self._pause
        self._trying = True

    def failed(self) -> None:
        """A change was not kept."""
        now = self._clock()
        if self._until is None:
            self._pause = self._first
        elif self._trying or now >= self._until:
            self._pause = min(self._longest, self._pause * _GROWTH)
        else:
            # Of many that failed together one counts.
            return
        self._until = now + self._pause
        self._trying = False

    def worked(self) -> None:
        """A change was kept."""
        self._until = None
        self._trying = False
