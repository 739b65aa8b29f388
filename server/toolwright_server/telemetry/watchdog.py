"""Notices, from a thread of its own, that the event loop is blocked, and names the tool that does it.

It also measures how late the loop runs its timers. Never interrupts anything: it reports.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

_logger = logging.getLogger(__name__)

_TASK_PREFIX = "tool:"
_NO_TOOL = "no tool, but the server itself"


@dataclass(frozen=True, slots=True)
class _Blockage:
    tool: str
    execution_id: str
    since: float

    def __str__(self) -> str:
        return f"tool {self.tool} (execution {self.execution_id})" if self.tool else _NO_TOOL


class Watchdog:
    """Watches one event loop. Tasks that run tools are named `tool:{tool}:{execution_id}`. Times are in seconds."""

    def __init__(
        self,
        *,
        blocked_after_seconds: float,
        tick_seconds: float,
        on_lag: Callable[[float], None],
        on_blocked: Callable[[str], None],
    ) -> None:
        self._limit = blocked_after_seconds
        self._tick_seconds = tick_seconds
        self._on_lag = on_lag
        self._on_blocked = on_blocked
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0
        self._stopped = threading.Event()
        self._blockage: _Blockage | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch `loop`; called on its thread."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._ticked = time.monotonic()
        self._timer = loop.call_later(self._tick_seconds, self._tick)
        self._thread = threading.Thread(target=self._watch, name="toolwright-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; called on the loop's thread."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join(1.0)

    def blocked(self) -> tuple[str, float] | None:
        """Who holds the loop now, as words, and for how many seconds; None while it runs. From any thread."""
        blockage = self._blockage
        if blockage is None:
            return None
        return str(blockage), time.monotonic() - blockage.since

    def _tick(self) -> None:
        now = time.monotonic()
        lag = max(0.0, now - self._ticked - self._tick_seconds)
        self._on_lag(lag)
        blockage, self._blockage = self._blockage, None
        if blockage is not None:
            _logger.warning(
                "the event loop runs again; it was blocked for %.1f s by %s", now - blockage.since, blockage
            )
        elif lag > self._limit:
            # The watching thread could not look either: native code kept the interpreter lock, or the machine slept.
            self._on_blocked("")
            _logger.warning("the event loop was blocked for %.1f s, and so was the whole process", lag)
        self._ticked = now
        assert self._loop is not None
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def _watch(self) -> None:
        while not self._stopped.wait(min(self._limit / 4, 0.25)):
            ticked = self._ticked
            if self._blockage is None and time.monotonic() - ticked > self._limit:
                self._report(ticked)

    def _report(self, since: float) -> None:
        assert self._loop is not None
        task = asyncio.current_task(self._loop)
        tool, execution_id = _named(task.get_name() if task is not None else "")
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented, in spite of its name
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "unknown"
        blockage = _Blockage(tool, execution_id, since)
        self._blockage = blockage
        if self._ticked != since:
            self._blockage = None  # it was released while we looked
            return
        self._on_blocked(tool)
        _logger.error(
            "the event loop has been blocked for %.1f s by %s",
            time.monotonic() - since,
            blockage,
            extra={"stack": stack},
        )


def _named(task_name: str) -> tuple[str, str]:
    if not task_name.startswith(_TASK_PREFIX):
        return "", ""
    tool, _, execution_id = task_name.removeprefix(_TASK_PREFIX).rpartition(":")
    return tool, execution_id
