"""One execution while it runs: its row, its events, its deadline, and whether it was told to stop.

It is also the Reporter that its backend talks to. Decides nothing: the executor does.
"""

import asyncio
import time
from enum import Enum

from toolwright_server.catalog.model import Tool
from toolwright_server.execution.backend import OutputLimit
from toolwright_server.execution.deadline import Deadline
from toolwright_server.execution.events import EventLog, Happening, Logged, Progressed, StateChanged, Wrote
from toolwright_server.execution.model import TRANSITIONS, Execution, Invocation, State
from toolwright_server.telemetry import CallTrace

MESSAGE_LIMIT = 1_024
LOG_LIMIT = 4_096
CHANNEL_LIMIT = 64
LEVELS = frozenset({"debug", "info", "warning", "error"})

# Made once: every execution that is kept holds its own, and the collector walks them all.
_CHANGES = {(before, to): StateChanged(before, to) for before, after in TRANSITIONS.items() for to in after}


class Stop(Enum):
    """Why an execution was told to stop before its tool had answered."""

    DEADLINE = "its time was up"
    CLIENT_DEADLINE = "the caller's own deadline passed"
    CLIENT_LEFT = "the caller cancelled or disconnected"
    REQUESTED = "CancelExecution was called"
    PARENT_ENDED = "the call in which it was a step ended"
    DRAINING = "the server is shutting down"


class Flight:
    """See the module. `finished` is true once the execution was settled; `trace` is the tool's span."""

    __slots__ = (
        "children",
        "deadline",
        "events",
        "execution",
        "finished",
        "invocation",
        "output_limit",
        "output_size",
        "started_at",
        "stop_reason",
        "tool",
        "trace",
        "waiters",
        "wake",
    )

    def __init__(
        self,
        *,
        invocation: Invocation,
        tool: Tool,
        execution: Execution,
        deadline: Deadline,
        events: EventLog,
        output_limit: int,
        trace: CallTrace,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.invocation = invocation
        self.tool = tool
        self.execution = execution
        self.deadline = deadline
        self.events = events
        self.output_limit = output_limit
        self.output_size = 0
        self.trace = trace
        self.started_at: float | None = None
        self.stop_reason: Stop | None = None
        self.children: set[Flight] = set()
        # Done as soon as the tool has answered or the execution was told to stop.
        self.wake: asyncio.Future[None] = loop.create_future()
        self.finished = False
        self.waiters: list[asyncio.Future[None]] = []

    def stop(self, reason: Stop) -> None:
        """Tell the execution to stop. The first reason counts; after the end nothing happens."""
        if self.stop_reason is None and not self.wake.done():
            self.stop_reason = reason
            self.wake.set_result(None)

    def time_up(self) -> None:
        """The deadline passed."""
        self.stop(Stop.DEADLINE)

    def answered(self, _: object = None) -> None:
        """The backend's task is done."""
        if not self.wake.done():
            self.wake.set_result(None)

    def move(self, to: State) -> None:
        """Enter a state and say so in the log."""
        before = self.execution.state
        self.execution.move(to)
        self._append(_CHANGES[before, to])

    async def ended(self, seconds: float | None) -> bool:
        """Wait until the execution is settled; False when `seconds` passed before. Cancelling stops nothing."""
        if self.finished:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self.waiters.append(waiter)
        timer = None if seconds is None else loop.call_later(seconds, _resolve, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if not self.finished:
                self.waiters.remove(waiter)
        return self.finished

    def settle_times(self, now: float) -> None:
        """The end, and what took how long; `now` is an instant on the monotonic clock."""
        execution = self.execution
        execution.end_time = time.time()
        if self.started_at is None:
            execution.queue_seconds = now - self.invocation.received
        else:
            execution.tool_seconds = now - self.started_at

    def land(self) -> None:
        """The record is kept: tell whoever waits, and let no child outlive its parent."""
        self.finished = True
        for waiter in self.waiters:
            _resolve(waiter)
        self.events.close()
        for child in tuple(self.children):
            child.stop(Stop.PARENT_ENDED)

    def started(self) -> None:
        # First, because it refuses what has ended: a record that was settled must not change any more.
        self.move(State.RUNNING)
        now = time.monotonic()
        self.started_at = now
        self.execution.start_time = time.time()
        self.execution.queue_seconds = now - self.invocation.received
        self.execution.attempts += 1

    def progress(self, done: float, total: float | None, message: str) -> None:
        self._report(Progressed(done, total, message[:MESSAGE_LIMIT]))

    def output(self, chunk: str | bytes, channel: str) -> None:
        self.output_size += _bytes(chunk)
        if self.output_size > self.output_limit:
            raise OutputLimit(f"the output of {self.execution.tool} grew beyond {self.output_limit} bytes")
        self._report(Wrote(channel[:CHANNEL_LIMIT], chunk))

    def log(self, level: str, text: str) -> None:
        self._report(Logged(level if level in LEVELS else "info", text[:LOG_LIMIT]))

    def _report(self, what: Happening) -> None:
        # A tool that could not be stopped may go on reporting: the record is closed.
        if not self.execution.ended:
            self._append(what)

    def _append(self, what: Happening) -> None:
        self.events.append(time.time(), what)
        # `finished`, which readers get from the row itself, is the event after the last one in the log.
        self.execution.last_sequence = self.events.last_sequence + self.execution.ended


def _bytes(chunk: str | bytes) -> int:
    if isinstance(chunk, bytes) or chunk.isascii():
        return len(chunk)
    return len(chunk.encode("utf-8", "surrogatepass"))


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
