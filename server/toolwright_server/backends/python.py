"""Runs async Python functions on the server's event loop. They can be asked to stop, not made to."""

import asyncio
from collections.abc import Mapping
from typing import Any

from toolwright_server.artifacts.writing import DEFAULT_TYPE, ArtifactFile
from toolwright_server.backends.async_artifact import AsyncArtifact
from toolwright_server.backends.invoke import (
    BadAnswer,
    Refused,
    answer,
    bind,
    failure_in_full,
    for_operators,
    is_own_words,
    target_of,
    tools_logger,
    vouches,
)
from toolwright_server.backends.reports import Reporting
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import Lost, NotSent, OutputLimit, ToolFailed, Work
from toolwright_server.execution.model import Stopped


class PythonBackend:
    """See the module. A tool that swallows its cancellation goes on: `unconfirmed` says so."""

    unconfirmed = Stopped.NO

    async def run(self, work: Work) -> bytes:
        """As the Protocol says; in the task that the executor made, whose context variables are set already."""
        target = target_of(work.tool)
        try:
            arguments = bind(work.tool, work.arguments)
        except Refused as refused:
            raise NotSent(refused.failure) from None
        context = None
        if target.signature.context is not None:
            context = arguments[target.signature.context] = LoopContext(work)
        work.reporter.started()
        try:
            value = await target.function(**arguments)
            if context is not None and context.overflow:
                raise context.overflow  # noqa: TRY301 (swallowed by the tool, and still true)
            return answer(work.tool, value, work.result_limit_bytes)
        except BaseException as error:
            if _is_ours(work, error):
                raise
            raise ended(work, error) from None


def _is_ours(work: Work, error: BaseException) -> bool:
    """Whether the exception is the order to stop, or the end of the interpreter, rather than the tool's own doing."""
    if isinstance(error, asyncio.CancelledError):
        return work.cancelled
    if isinstance(error, GeneratorExit):
        # A coroutine that is thrown away unfinished is closed from outside of any task.
        try:
            return asyncio.current_task() is None
        except RuntimeError:
            return True
    return False


def ended(work: Work, error: BaseException) -> NotSent | ToolFailed | Lost:
    """What the exception of a tool means, after logging what only operators may read."""
    if isinstance(error, OutputLimit):
        return ToolFailed(Failure(Reason.OUTPUT_LIMIT, str(error)))
    failure = failure_in_full(work.tool, error)
    report(work, error, failure)
    if vouches(error):
        return NotSent(failure)
    return Lost(failure) if failure.reason is Reason.MEMORY_LIMIT else ToolFailed(failure)


def report(work: Work, error: BaseException, failure: Failure) -> None:
    """Log an exception that callers hear nothing but the type of."""
    extra = {"execution_id": work.execution_id}
    if is_own_words(error):
        return
    if isinstance(error, BadAnswer) or work.tool.has_secrets:
        tools_logger.error("%s: %s", failure.message, for_operators(work.tool, error), extra=extra)
    else:
        tools_logger.error("%s", failure.message, exc_info=error, extra=extra)


class LoopContext(Reporting):
    """The context of an async tool: reports go straight to the executor."""

    __slots__ = ("_work", "overflow")

    def __init__(self, work: Work) -> None:
        super().__init__(work.execution_id, work.task_id, work.caller, reports_price=work.tool.reports_price)
        self._work = work
        self.overflow: OutputLimit | None = None

    @property
    def remaining(self) -> float:
        return self._work.deadline.remaining()

    @property
    def cancelled(self) -> bool:
        return self._work.cancelled

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        return await self._work.call(tool, arguments or {})

    def artifact(self, name: str, media_type: str = DEFAULT_TYPE) -> AsyncArtifact:
        return AsyncArtifact(ArtifactFile(self._work.artifacts, name, media_type))

    def _progress(self, done: float, total: float | None, message: str) -> None:
        self._work.reporter.progress(done, total, message)

    def _output(self, chunk: str | bytes, channel: str) -> None:
        try:
            self._work.reporter.output(chunk, channel)
        except OutputLimit as error:
            self.overflow = error
            raise

    def _log(self, level: str, text: str) -> None:
        self._work.reporter.log(level, text)

    def _charge(self, micros: int) -> None:
        self._work.charge(micros)
