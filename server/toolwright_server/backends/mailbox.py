"""Carries what a thread says to the event loop: in order, bounded, and never more at once than the loop can spare."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable

_PENDING_LIMIT = 1_024
_BURST = 64


class Mailbox:
    """Calls that a thread wants made on `loop`. A thread that says more than the loop can take waits for the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[Callable[[], object]] = deque()
        self._room = threading.Semaphore(_PENDING_LIMIT)
        self._lock = threading.Lock()
        self._called = False

    def post(self, letter: Callable[[], object]) -> None:
        """From the thread: have `letter` called on the loop, after all that was posted before."""
        self._room.acquire()
        with self._lock:
            self._letters.append(letter)
            if self._called:
                return
            self._called = True
        self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        for _ in range(_BURST):
            with self._lock:
                if not self._letters:
                    self._called = False
                    return
                letter = self._letters.popleft()
            self._room.release()
            letter()
        self._loop.call_soon(self._deliver)
