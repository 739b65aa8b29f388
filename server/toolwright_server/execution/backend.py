"""What the executor asks of a thing that runs tools, and what such a thing may answer.

A backend's failures say whether anything was sent: that alone decides what may be repeated.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from opentelemetry.context import Context

from toolwright_server.artifacts.model import ArtifactRefused
from toolwright_server.artifacts.writing import Drafts
from toolwright_server.catalog.model import Tool
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.deadline import Deadline
from toolwright_server.execution.model import Stopped
from toolwright_server.identity import Caller


class Reporter(Protocol):
    """Where a running tool's reports go. None of these ever waits; all may be called only on the event loop."""

    def started(self) -> None:
        """The tool is being started now: from here on something may have happened. Called once per attempt."""
        ...

    def progress(self, done: float, total: float | None, message: str) -> None:
        """How far the tool is."""
        ...

    def output(self, chunk: str | bytes, channel: str) -> None:
        """A piece of output. Raises OutputLimit when the execution's output grows too large."""
        ...

    def log(self, level: str, text: str) -> None:
        """A log line of the tool; an unknown level counts as `info`."""
        ...


def _nobody_pays(micros: int) -> None:
    """For a server whose calls cost nothing."""


def _no_artifacts() -> Drafts:
    raise ArtifactRefused(Failure(Reason.TOOL_FAILED, "this server keeps no artifacts"))


@dataclass(slots=True)
class Work:
    """One attempt at one call, as a backend sees it."""

    execution_id: str
    task_id: str
    tool: Tool
    arguments: dict[str, Any]
    caller: Caller
    deadline: Deadline
    reporter: Reporter
    # Runs a nested call and returns its value; raises ToolCallError. Cancelled with the work.
    call: Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, Any]]
    # OpenTelemetry context of the call: trace, deadline and execution id, for what the tool calls in turn.
    context: Context
    # Makes the W3C trace headers of the same, for what does not run in this process.
    headers: Callable[[], Mapping[str, str]]
    # An ancestor of this call holds a worker, a slot or the like: never wait for one.
    nested: bool
    # Most bytes of the result's JSON text.
    result_limit_bytes: int
    # Set once the work was told to stop.
    cancelled: bool = False
    # The tool has spent so many micros more; only where it `reports_price`. On the event loop, never waits.
    charge: Callable[[int], None] = _nobody_pays
    # Where the tool begins artifacts; asked when it does. From any thread. Raises ArtifactRefused.
    artifacts: Callable[[], Drafts] = _no_artifacts

    @property
    def trace_headers(self) -> Mapping[str, str]:
        """W3C trace headers of the call."""
        return self.headers()


class Backend(Protocol):
    """Runs tools."""

    @property
    def unconfirmed(self) -> Stopped:
        """What is true of work whose `run` has not ended shortly after it was cancelled: NO or UNKNOWN."""
        ...

    async def run(self, work: Work) -> bytes:
        """Run the tool once and return its value as JSON text.

        Calls `work.reporter.started()` before anything can have happened. Raises NotSent, ToolFailed or Lost. When
        cancelled it stops the work and ends only when the work has ended, so that its end is a confirmation.
        """
        ...


class NotSent(Exception):
    """Nothing was started: the call may be repeated whatever its effect."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ToolFailed(Exception):
    """The tool ran and answered with a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Lost(Exception):
    """The tool was started and gave no answer: nobody knows how far it came."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class OutputLimit(Exception):
    """The execution's output would grow beyond its limit."""
