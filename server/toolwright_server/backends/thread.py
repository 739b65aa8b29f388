"""Runs synchronous functions in threads, for tools that chose it. What cannot be stopped is recorded as such."""

import asyncio
import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from toolwright_server.artifacts.writing import DEFAULT_TYPE, ArtifactFile
from toolwright_server.backends.invoke import Refused, answer, bind, target_of
from toolwright_server.backends.line import Line, LineFull
from toolwright_server.backends.mailbox import Mailbox
from toolwright_server.backends.python import ended
from toolwright_server.backends.reports import Reporting
from toolwright_server.catalog.context import ToolCallError
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import NotSent, OutputLimit, Work
from toolwright_server.execution.model import Stopped

_logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25

Job = Callable[[], None]


class ThreadBackend:
    """`threads` calls run at once, `queue_limit` more wait; nested calls add at most as many threads again."""

    unconfirmed = Stopped.NO

    def __init__(self, threads: int, queue_limit: int) -> None:
        self._limit = threads
        self._line: Line[_Thread] = Line(queue_limit, self._give)
        self._threads: set[_Thread] = set()

    @property
    def threads(self) -> int:
        """Threads alive."""
        return len(self._threads)

    @property
    def queued(self) -> int:
        """Calls that wait for a thread."""
        return self._line.waiting

    async def run(self, work: Work) -> bytes:
        """As the Protocol says; cancelled, it ends when the function has ended."""
        try:
            arguments = bind(work.tool, work.arguments)
        except Refused as refused:
            raise NotSent(refused.failure) from None
        thread = await self._take(work)
        try:
            return await _Call(work, arguments).run_in(thread)
        finally:
            self._give(thread)

    async def close(self) -> None:
        """End the threads that run nothing; the others end with their functions, or with the process."""
        self._line.refuse(_closing)
        for thread in tuple(self._threads):
            thread.end()
        self._threads.clear()
        self._line.idle.clear()

    async def _take(self, work: Work) -> "_Thread":
        idle = self._line.take_idle()
        if idle is not None:
            return idle
        if len(self._threads) < self._limit * (2 if work.nested else 1):
            thread = _Thread()
            self._threads.add(thread)
            return thread
        if work.nested:
            raise _busy(work.tool.name, "and a nested call does not wait for one")
        try:
            return await self._line.served(self._line.join())
        except LineFull:
            raise _busy(work.tool.name, f"and {self._line.waiting} calls wait for one") from None

    def _give(self, thread: "_Thread") -> None:
        if thread not in self._threads:
            thread.end()
        elif len(self._threads) > self._limit:
            self._threads.discard(thread)
            thread.end()
        else:
            self._line.offer(thread)


def _busy(tool: str, rest: str) -> NotSent:
    return NotSent(
        Failure(
            Reason.CONCURRENCY_LIMITED,
            f"every thread is busy, {rest}: {tool} was not started",
            retry_delay=_RETRY_SECONDS,
        )
    )


def _closing() -> NotSent:
    return NotSent(Failure(Reason.UPSTREAM_UNAVAILABLE, "the server is shutting down: the tool was not started"))


class _Thread:
    """One thread, which runs the jobs that it is given one after the other until it is told to end."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="toolwright-tool", daemon=True).start()

    def give(self, job: Job) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except RuntimeError:
                # The loop was closed under a tool that could not be stopped: there is nobody to answer.
                _logger.debug("a thread outlived its event loop")
                return
            # What the job holds, the tool's arguments and result, must not live until the next one.
            del job


class _Call:
    """One call in one thread."""

    def __init__(self, work: Work, arguments: dict[str, Any]) -> None:
        self._work = work
        self._arguments = arguments
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox(self._loop)
        self._end: asyncio.Future[bytes | BaseException] = self._loop.create_future()
        self._context: ThreadContext | None = None

    async def run_in(self, thread: _Thread) -> bytes:
        work = self._work
        name = target_of(work.tool).signature.context
        if name is not None:
            self._context = self._arguments[name] = ThreadContext(work, self._mailbox, self._loop)
        work.reporter.started()
        thread.give(partial(contextvars.copy_context().run, self._in_thread))
        await self._ended()
        end = self._end.result()
        if isinstance(end, bytes):
            return end
        raise ended(work, end) from None

    async def _ended(self) -> None:
        while not self._end.done():
            try:
                await asyncio.wait((self._end,))
            except asyncio.CancelledError:
                # The thread cannot be stopped; what it waits for can.
                if self._context is not None:
                    self._context.leave_nested()

    def _in_thread(self) -> None:
        end = self._attempted()
        self._mailbox.post(lambda: self._end.set_result(end))

    def _attempted(self) -> bytes | BaseException:
        work = self._work
        try:
            value = target_of(work.tool).function(**self._arguments)
            if self._context is not None and self._context.overflow:
                return self._context.overflow
            return answer(work.tool, value, work.result_limit_bytes)
        except BaseException as error:  # noqa: BLE001 (whatever a tool raises is its answer)
            return error


class ThreadContext(Reporting):
    """The context of a tool in a thread: reports hop to the loop, nested calls block the thread."""

    __slots__ = ("_left", "_loop", "_mailbox", "_nested", "_work", "overflow")

    def __init__(self, work: Work, mailbox: Mailbox, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(work.execution_id, work.task_id, work.caller, reports_price=work.tool.reports_price)
        self._work = work
        self._mailbox = mailbox
        self._loop = loop
        self._nested: set[Future[Any]] = set()
        self._left = False
        self.overflow: OutputLimit | None = None

    @property
    def remaining(self) -> float:
        return self._work.deadline.remaining()

    @property
    def cancelled(self) -> bool:
        return self._work.cancelled

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        if self._left:
            raise ToolCallError("CANCELLED", f"the call was told to stop; {tool} is not called any more")
        future = asyncio.run_coroutine_threadsafe(self._work.call(tool, arguments or {}), self._loop)
        self._nested.add(future)
        if self._left:  # between the question above and now
            future.cancel()
        try:
            return future.result()
        except CancelledError:
            raise ToolCallError("CANCELLED", f"the call was told to stop while it waited for {tool}") from None
        finally:
            self._nested.discard(future)

    def artifact(self, name: str, media_type: str = DEFAULT_TYPE) -> ArtifactFile:
        return ArtifactFile(self._work.artifacts, name, media_type)

    def leave_nested(self) -> None:
        """On the loop: stop the nested calls that the thread waits for."""
        self._left = True
        for future in tuple(self._nested):
            future.cancel()

    def _progress(self, done: float, total: float | None, message: str) -> None:
        self._mailbox.post(partial(self._work.reporter.progress, done, total, message))

    def _output(self, chunk: str | bytes, channel: str) -> None:
        if self.overflow is not None:
            raise self.overflow
        self._mailbox.post(partial(self._wrote, chunk, channel))

    def _wrote(self, chunk: str | bytes, channel: str) -> None:
        try:
            self._work.reporter.output(chunk, channel)
        except OutputLimit as error:
            self.overflow = error

    def _log(self, level: str, text: str) -> None:
        self._mailbox.post(partial(self._work.reporter.log, level, text))

    def _charge(self, micros: int) -> None:
        self._mailbox.post(partial(self._work.charge, micros))
