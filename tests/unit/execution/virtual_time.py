"""Runs a coroutine on a clock of its own: time stands still while there is anything to do, and jumps to the next timer
when there is nothing. What takes a minute takes no time, and a limit that is passed is passed exactly.
"""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

# Later than what any part could have remembered of the real clock.
BEGINNING = 1_000_000.0


class _Jumping(selectors.DefaultSelector):
    """Never waits: who has nothing to do until a timer is at that timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGINNING

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise AssertionError("everything waits, and for nothing that will come")
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on that clock."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """What it returns. While it runs, `time.monotonic` is the loop's clock for all that ask."""
    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        mock.patch.object(time, "monotonic", runner.get_loop().time),
    ):
        return runner.run(work)
