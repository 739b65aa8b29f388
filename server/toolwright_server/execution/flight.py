"""One execution while it runs: its row, its events, its deadline, and whether it was told to stop.

It is also the Reporter that its backend talks to. Decides nothing: the executor does.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol

from toolwright_server.artifacts.desk import Desk
from toolwright_server.catalog.model import Effect, Tool
from toolwright_server.errors import Failure
from toolwright_server.execution.backend import OutputLimit
from toolwright_server.execution.deadline import Deadline
from toolwright_server.execution.events import (
    CHANGES,
    TOLD_BY_ROW,
    EventLog,
    EventLogs,
    Happening,
    Logged,
    Progressed,
    Retold,
    Retried,
    Warned,
    Wrote,
    state_changes,
)
from toolwright_server.execution.model import Execution, Invocation, State
from toolwright_server.execution.propagation import CallContext
from toolwright_server.limits.limiter import Admission
from toolwright_server.telemetry import CallTrace

MESSAGE_LIMIT = 1_024
LOG_LIMIT = 4_096
CHANNEL_LIMIT = 64
LEVELS = frozenset({"debug", "info", "warning", "error"})


class Stop(Enum):
    """Why an execution was told to stop before its tool had answered."""

    DEADLINE = "its time was up"
    CLIENT_DEADLINE = "the caller's own deadline passed"
    CLIENT_LEFT = "the caller cancelled or disconnected"
    REQUESTED = "CancelExecution was called"
    PARENT_ENDED = "the call in which it was a step ended"
    DRAINING = "the server is shutting down"


class Followers(Protocol):
    """Other calls that get what this one comes to; see recall/shared.py."""

    @property
    def waiting(self) -> Iterator[Invocation]:
        """The calls."""
        ...

    def landed(self, flight: "Flight") -> None:
        """It has ended and is in the record."""
        ...


class Flight:
    """See the module. `finished` is true once the execution was settled; `trace` is the tool's span."""

    __slots__ = (
        "_attending",
        "_children",
        "_detached",
        "_events",
        "_logs",
        "_waiters",
        "admission",
        "answer",
        "answered",
        "attempt_started_at",
        "context",
        "deadline",
        "desk",
        "execution",
        "finished",
        "followers",
        "interrupt",
        "invocation",
        "lender",
        "loop",
        "output_limit",
        "output_size",
        "overran",
        "started_at",
        "stop_reason",
        "task",
        "tool",
        "trace",
        "whole",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        invocation: Invocation,
        tool: Tool,
        execution: Execution,
        deadline: Deadline,
        admission: Admission,
        logs: EventLogs,
        output_limit: int,
        trace: CallTrace,
    ) -> None:
        self.loop = loop
        self.invocation = invocation
        self.tool = tool
        self.execution = execution
        self.deadline = deadline
        self.admission = admission
        self.output_limit = output_limit
        self.output_size = 0
        self.trace = trace
        # OpenTelemetry's, for what the tool calls in turn.
        self.context = CallContext(trace, deadline, execution.execution_id)
        self.started_at: float | None = None
        # The present attempt's, and whom to tell when that goes on after it was told to stop; see circuits/breaker.py.
        self.attempt_started_at: float | None = None
        self.overran: Callable[[], object] | None = None
        self.stop_reason: Stop | None = None
        # The task that will settle the execution.
        self.task: asyncio.Task[None] | None = None
        # Stops the tool while it runs; see attempt.py.
        self.interrupt: Callable[[], object] | None = None
        # No order to stop counts any more.
        self.answered = False
        # What the tool returned, as its callers get it: the row keeps it without secrets, or not at all.
        self.answer: bytes | None = None
        # The same, also where its own callers get an artifact in its place because it is too large.
        self.whole: bytes | None = None
        # Of its artifacts; None while it has none.
        self.desk: Desk | None = None
        # The execution for which it runs, and whose artifacts it writes; see recall/joining.py.
        self.lender: Flight | None = None
        self.finished = False
        self.followers: Followers | None = None
        # Callers that wait, and whether one of them wants it to go on without anybody.
        self._attending = 1
        self._detached = invocation.detach
        self._logs = logs
        self._events: EventLog | None = None
        self._children: set[Flight] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def events(self) -> EventLog:
        """Opened when somebody reads it, or when there is more to tell than the row does: most calls need none."""
        if self._events is not None:
            return self._events
        if self.finished:
            return Retold(self.execution)
        log = self._events = self._logs.open(self.execution.execution_id)
        for event in state_changes(self.execution):
            log.append(event.time, event.what)
        return log

    @property
    def children(self) -> "set[Flight]":
        """The calls that the tool has made and that have not ended."""
        if self._children is None:
            self._children = set()
        return self._children

    def join(self, invocation: Invocation) -> None:
        """One caller more waits for the same execution."""
        self._attending += 1
        self._detached = self._detached or invocation.detach

    def attend(self) -> None:
        """Somebody else waits for it, who leaves as its callers do."""
        self._attending += 1

    def is_of(self, invocation: Invocation) -> bool:
        """Whether it was begun by this call."""
        return self.invocation is invocation

    def leave(self) -> bool:
        """A caller does not wait any more; whether it was the last one, and takes the execution along."""
        self._attending -= 1
        return self._attending <= 0 and not self._detached

    @property
    def given_up(self) -> bool:
        """Whether it is about to end only because nobody waited for it, so that it may be done again."""
        return self.stop_reason is Stop.CLIENT_LEFT and self.tool.effect is not Effect.SIDE_EFFECT

    def stop(self, reason: Stop) -> None:
        """Tell the execution to stop. The first reason counts; after the tool's answer nothing happens."""
        if self.stop_reason is None and not self.answered:
            self.stop_reason = reason
            if self.interrupt is not None:
                self.interrupt()

    def time_up(self) -> None:
        """The deadline passed."""
        self.stop(Stop.DEADLINE)

    def move(self, to: State, at: float) -> None:
        """Enter a state, at a wall-clock time that the row has too."""
        execution, before = self.execution, self.execution.state
        events = self._events
        if events is None and to not in TOLD_BY_ROW:
            events = self.events
        execution.move(to)
        if events is not None:
            self._append(at, CHANGES[before, to])
        else:
            execution.last_sequence += 1 + execution.ended

    async def ended(self, seconds: float | None) -> bool:
        """Wait until the execution is settled; False when `seconds` passed before. Cancelling stops nothing."""
        if self.finished:
            return True
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.append(waiter)
        timer = None if seconds is None else self.loop.call_later(seconds, _resolve, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if not self.finished:
                self._waiters.remove(waiter)
        return self.finished

    def settle_times(self, now: float) -> float:
        """The end, which is returned, and what took how long; `now` is an instant on the monotonic clock."""
        execution = self.execution
        end = execution.end_time = time.time()
        if self.started_at is None:
            execution.queue_seconds = now - self.invocation.received
        else:
            execution.tool_seconds = now - self.started_at
        return end

    def lose(self, failure: Failure) -> None:
        """The record does not hold what became of it: nobody is told otherwise."""
        execution = self.execution
        execution.failure = failure
        self.answer = self.whole = execution.result = None
        execution.cost_micros = 0
        # No move of the table: what it was before was never kept.
        execution.state = State.OUTCOME_UNKNOWN if self.tool.effect is Effect.SIDE_EFFECT else State.FAILED

    def land(self) -> None:
        """The record is kept: tell whoever waits, and let no child outlive its parent."""
        self.finished = True
        self.admission.release()
        for waiter in self._waiters:
            _resolve(waiter)
        if self._events is not None:
            self._events.close()
        if self.followers is not None:
            self.followers.landed(self)
        for child in tuple(self._children or ()):
            child.stop(Stop.PARENT_ENDED)

    def started(self) -> None:
        now, at = time.monotonic(), time.time()
        # First, because it refuses what has ended: a record that was settled must not change any more.
        self.move(State.RUNNING, at)
        self.execution.attempts += 1
        self.attempt_started_at = now
        self._begin(now, at)

    def replaced(self) -> None:
        """Another tool is called in the place of this one: from here on something may have happened all the same."""
        at = time.time()
        if self.execution.state is not State.RUNNING:
            self.move(State.RUNNING, at)
        self._begin(time.monotonic(), at)

    def _begin(self, now: float, at: float) -> None:
        if self.started_at is None:
            self.started_at = now
            self.execution.start_time = at
            self.execution.queue_seconds = now - self.invocation.received

    def retrying(self, retried: Retried, *, nothing_sent: bool) -> None:
        """An attempt failed, and another one follows."""
        if nothing_sent:
            # Proven: whatever ends it now, it is as if it had never been started.
            self.started_at = None
        self.forget_artifacts()
        at = time.time()
        if self.execution.state is not State.RETRYING:
            self.move(State.RETRYING, at)
        self._append(at, retried)

    def forget_artifacts(self) -> None:
        """What the tool has written is no part of the answer: the attempt has failed."""
        desk = (self.lender or self).desk
        if desk is not None:
            desk.begin_anew()

    def warn(self) -> None:
        """Say to streams what limits the call came near to; nearly none does."""
        at = time.time()
        for warning in self.execution.warnings:
            self._append(at, Warned(warning))

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
            self._append(time.time(), what)

    def _append(self, at: float, what: Happening) -> None:
        events = self.events
        events.append(at, what)
        # `finished`, which readers get from the row itself, is the event after the last one in the log.
        self.execution.last_sequence = events.last_sequence + self.execution.ended


def _bytes(chunk: str | bytes) -> int:
    if isinstance(chunk, bytes) or chunk.isascii():
        return len(chunk)
    return len(chunk.encode("utf-8", "surrogatepass"))


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
