"""What a tool may ask of the call in which it runs. The implementations live in the backends."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from toolwright_server.identity import Caller


class ToolContext(Protocol):
    """Reports and facts of one call. A parameter annotated with it (or with one of the two below) is filled in."""

    @property
    def execution_id(self) -> str:
        """Id of the execution, a UUIDv7."""
        ...

    @property
    def task_id(self) -> str:
        """Id of the task: the root of the tree that the execution belongs to."""
        ...

    @property
    def caller(self) -> Caller:
        """Tenant, principal and user of the call."""
        ...

    @property
    def deadline(self) -> datetime:
        """When the call's time is up (UTC)."""
        ...

    @property
    def remaining(self) -> float:
        """Seconds left before the deadline; 0 when it has passed."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the call has been told to stop."""
        ...

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far the tool is, in units of its own. Never waits for a reader."""
        ...

    def output(self, chunk: str | bytes, channel: str = "output") -> None:
        """Send a piece of output. Never waits for a reader. All of it together is limited."""
        ...

    def log(self, level: str, text: str) -> None:
        """Send a log line; `level` is `debug`, `info`, `warning` or `error`."""
        ...

    def charge(self, micros: int) -> None:
        """Say that the call has cost so many micros more (one credit is 1,000,000), as soon as they are spent.

        For tools that declare `price_max`; what goes beyond it is not charged. Charged however the call ends. Raises
        TypeError, ValueError, or RuntimeError when the tool declares no `price_max`.
        """
        ...


class SyncArtifact(Protocol):
    """A part of the result that is written to storage as it comes. Leaving its block by an exception leaves nothing.

    Beyond a limit of the server it raises ArtifactRefused, by which the call fails (OUTPUT_LIMIT) unless it is caught.
    """

    def write(self, chunk: str | bytes | bytearray | memoryview) -> int:
        """Append bytes, or text as UTF-8; how many bytes that was."""
        ...


class AsyncArtifact(Protocol):
    """As SyncArtifact, for async tools."""

    async def write(self, chunk: str | bytes | bytearray | memoryview) -> int:
        """Append bytes, or text as UTF-8; how many bytes that was."""
        ...


class AsyncToolContext(ToolContext, Protocol):
    """The context of an async tool."""

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call another tool inside this call's deadline and return its value.

        Raises `ToolCallError` when it was refused or failed.
        """
        ...

    def artifact(
        self, name: str, media_type: str = "application/octet-stream"
    ) -> AbstractAsyncContextManager[AsyncArtifact]:
        """A file of the result: `async with context.artifact("a.csv", "text/csv") as file: await file.write(chunk)`.

        Callers get it if the tool succeeds. `name` is what they see, 1 to 255 printable characters: ValueError.
        """
        ...


class SyncToolContext(ToolContext, Protocol):
    """The context of a synchronous tool, in a worker process or a thread."""

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """As in `AsyncToolContext`, but blocking."""
        ...

    def artifact(self, name: str, media_type: str = "application/octet-stream") -> AbstractContextManager[SyncArtifact]:
        """As in `AsyncToolContext`, but `with` and a `write` that blocks."""
        ...


class ToolError(Exception):
    """Raised by a tool to fail with words of its own: they reach the caller, unlike other exceptions' text.

    `reason` is the tool's own machine-readable reason (`EMAIL_TAKEN`), sent as metadata `tool_reason`. `retryable`: the
    server tries again by the tool's policy, after `retry_delay` seconds if given; a SIDE_EFFECT tool only with
    `nothing_sent`, by which the tool vouches that nothing has happened (the connection was refused, say).
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        user_message: str = "",
        suggested_action: str = "",
        retryable: bool = False,
        retry_delay: float | None = None,
        nothing_sent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.nothing_sent = nothing_sent
        self.reason = reason
        self.user_message = user_message
        self.suggested_action = suggested_action
        self.retryable = retryable
        self.retry_delay = retry_delay
        self.metadata = dict(metadata or {})


class ToolCallError(Exception):
    """A nested call was refused or failed: `reason`, `message`, `retryable` and `metadata` as in ExecutionError."""

    def __init__(
        self, reason: str, message: str, *, retryable: bool = False, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.metadata = dict(metadata or {})
