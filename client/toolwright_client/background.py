"""One event loop in a background thread for each process, on which blocking clients run. It ends with the process."""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")

GOODBYE_SECONDS = 2.0


class BackgroundLoop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="toolwright-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Runs the coroutine in the caller's context and waits for it; an interrupt cancels it first."""
        if threading.current_thread() is self._thread:
            work.close()
            message = "a blocking client cannot wait on its own loop; use AsyncClient in asynchronous code"
            raise RuntimeError(message)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                # Lets the cancellation reach the server before an interrupt ends the process.
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), self._loop).result(GOODBYE_SECONDS)
            raise

    def stop(self) -> None:
        """Ends the thread, in the process that has it."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GOODBYE_SECONDS)


class _Process:
    """What belongs to this process: a fork has no thread of its parent's, so it starts anew."""

    def __init__(self, *, forked_too_late: bool = False) -> None:
        self.forked_too_late = forked_too_late
        self.lock = threading.Lock()
        self.loop: BackgroundLoop | None = None

    def background(self) -> BackgroundLoop:
        if self.forked_too_late:
            message = (
                "this process was forked after a blocking client had been used, and gRPC cannot go on in such a fork; "
                "fork before the first use, or start processes by spawn or forkserver"
            )
            raise RuntimeError(message)
        with self.lock:
            if self.loop is None:
                self.loop = BackgroundLoop()
                atexit.register(self.loop.stop)
            return self.loop


_process = _Process()


def _forked() -> None:
    global _process  # noqa: PLW0603 - the one thing that a new process must replace
    _process = _Process(forked_too_late=_process.forked_too_late or _process.loop is not None)


os.register_at_fork(after_in_child=_forked)


def background() -> BackgroundLoop:
    """This process's loop, started at the first use."""
    return _process.background()
