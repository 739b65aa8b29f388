"""One worker process as the server sees it: carries one call at a time, and is dead only when it is buried."""

import asyncio
import contextvars
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import orjson

from toolwright_server.backends.forked.drafts import answered
from toolwright_server.backends.forked.frames import Garbage, Header, frame
from toolwright_server.backends.forked.linux import is_ending
from toolwright_server.backends.process.channel import Channel
from toolwright_server.backends.process.failures import Ending, crashed, death, out_of_output, reported
from toolwright_server.backends.reports import amount
from toolwright_server.catalog.context import ToolCallError
from toolwright_server.errors import Reason
from toolwright_server.execution.backend import OutputLimit, Work

_logger = logging.getLogger(__name__)


class Unread(Exception):
    """The worker died before it had read the call: it may be given to another one."""


class Worker:
    """`on_ready` and `on_doomed` tell the pool; the latter comes once, with the reason, when it is given up."""

    def __init__(
        self,
        pid: int,
        pidfd: int,
        connection: socket.socket,
        payload_limit: int,
        *,
        on_ready: Callable[["Worker"], None],
        on_doomed: Callable[["Worker", str], None],
    ) -> None:
        self.pid = pid
        self.calls = 0
        self.doomed = False
        self._pidfd = pidfd
        self._on_ready = on_ready
        self._on_doomed = on_doomed
        self._work: Work | None = None
        self._scope: contextvars.Context | None = None
        self._heard = False
        self._unread = False
        self._verdict: Ending | None = None
        self._end: asyncio.Future[Ending | None] | None = None
        self._asked: asyncio.Task[None] | None = None
        self._grave: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._channel = Channel(connection, payload_limit, self._on_frame, self._on_end)

    async def carry(self, work: Work) -> bytes:
        """Run one call. Raises what Backend.run may, or Unread. Cancelled, it ends when everything of it is dead."""
        self._work, self._scope = work, contextvars.copy_context()
        self._heard = self._unread = False
        self._end = asyncio.get_running_loop().create_future()
        self.calls += 1
        self._channel.send(_call_frame(work))
        try:
            ending = await self._ended(work)
        finally:
            self._work = self._scope = self._end = None
        if isinstance(ending, bytes):
            return ending
        raise Unread if ending is None else ending

    async def _ended(self, work: Work) -> Ending | None:
        assert self._end is not None
        try:
            ending = await self._end
        except asyncio.CancelledError:
            # An answer that came at the same moment is an answer.
            if not self._end.done() or self._end.cancelled():
                await self._put_down("deadline" if not work.deadline.remaining() else "cancelled")
                raise
            ending = self._end.result()
        if self.doomed:
            await self._put_down("")
        await self._no_more_asking()
        return ending

    async def _put_down(self, reason: str) -> None:
        """Kill, and wait for the burial; being cancelled again does not help."""
        self.kill(reason)
        cancelled = False
        while not self._grave.done():
            try:
                await asyncio.wait((self._grave,))
            except asyncio.CancelledError:
                cancelled = True
        await self._no_more_asking()
        if cancelled:
            raise asyncio.CancelledError

    async def _no_more_asking(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.wait((self._asked,))
            self._asked = None

    def kill(self, reason: str) -> None:
        """Send SIGKILL at once. The fork server does the rest: group, orphans, burial."""
        if self.doomed:
            return
        self.doomed = True
        if not self._grave.done():
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._channel.close()
        self._on_doomed(self, reason)

    def buried(self, status: int | None) -> None:
        """Nothing of it is left. `status` as from waitpid; None when nobody saw its end."""
        os.close(self._pidfd)
        self._grave.set_result(status)
        self.kill("died")  # if it died by itself, nobody has given it up yet
        if self._end is not None and not self._end.done():
            assert self._work is not None
            if self._unread and self._verdict is None:
                self._end.set_result(None)
            else:
                self._end.set_result(self._verdict or crashed(self._work.tool.name, death(status)))

    def _on_frame(self, header: Header, payload: bytes) -> None:
        self._heard = True
        try:
            if self._work is None:
                self._before_work(header)
            else:
                self._during_work(self._work, header, payload)
        except OutputLimit as error:
            self._condemn(out_of_output(error), "output")
        except (ValueError, TypeError, IndexError) as error:
            raise Garbage(f"a frame that makes no sense ({type(error).__name__})") from error

    def _before_work(self, header: Header) -> None:
        if header != ["ready"] or self.calls:
            raise Garbage("a frame after the end of a call")
        self._on_ready(self)

    def _during_work(self, work: Work, header: Header, payload: bytes) -> None:
        match header:
            case ["result", str(retire)]:
                self._answer(payload, retire)
            case ["failed" | "lost" | "refused" as kind, str(retire)]:
                self._answer(reported(kind, payload, work.execution_id), retire)
            case ["progress", float(done), float() | None as total, str(message)]:
                work.reporter.progress(done, total, message)
            case ["output", str(channel), bool(is_text)]:
                work.reporter.output(payload.decode() if is_text else payload, channel)
            case ["log", str(level), str(text)]:
                work.reporter.log(level, text)
            case ["charge", int(micros)]:
                work.charge(amount(micros))
            case ["artifact", str(verb), *arguments]:
                self._channel.send(answered(work.artifacts, verb, arguments))
            case ["ask", str(tool)]:
                self._ask(work, tool, payload)
            case _:
                raise Garbage("a frame of an unknown kind")

    def _answer(self, ending: Ending, retire: str) -> None:
        assert self._end is not None
        if self._end.done():
            raise Garbage("a second end of one call")
        if retire:
            self._verdict = ending
            self.kill(retire)  # the burial ends the call: what the tool left is gone before its answer is given
        else:
            self._end.set_result(ending)

    def _on_end(self, error: Exception) -> None:
        """No more frames: it died, or somebody closed its connection, or what it wrote makes no sense."""
        if isinstance(error, Garbage):
            if self._work is not None:
                self._verdict = crashed(self._work.tool.name, f"wrote into its connection to the server: {error}")
            self.kill("garbage")
        elif isinstance(error, (ConnectionResetError, BrokenPipeError)) and not self._heard:
            # It left something unread, and there was nothing but the call.
            self._unread = True
            self.kill("died")
        else:
            if self._work is not None and self._verdict is None and not self.doomed and not is_ending(self.pid):
                # It lives, but nothing can be heard of it any more.
                self._verdict = crashed(self._work.tool.name, "closed its connection to the server and was killed")
            self.kill("died")

    def _condemn(self, verdict: Ending, reason: str) -> None:
        self._verdict = verdict
        self.kill(reason)

    def _ask(self, work: Work, tool: str, payload: bytes) -> None:
        if self._asked is not None and not self._asked.done():
            raise Garbage("a second nested call at one time")
        arguments: Any = orjson.loads(payload)
        if not isinstance(arguments, dict):
            raise Garbage("arguments that are no object")
        loop = asyncio.get_running_loop()
        self._asked = loop.create_task(self._reply(work, tool, arguments), context=self._scope)  # pyright: ignore[reportUnknownArgumentType]

    async def _reply(self, work: Work, tool: str, arguments: dict[str, Any]) -> None:
        try:
            value = await work.call(tool, arguments)
        except ToolCallError as error:
            said = {
                "reason": error.reason,
                "message": error.message,
                "retryable": error.retryable,
                "metadata": dict(error.metadata),
            }
            self._channel.send(frame(["reply", said]))
        except Exception:
            _logger.exception("a nested call of %s failed (execution %s)", work.tool.name, work.execution_id)
            said = {"reason": Reason.INTERNAL.name, "message": f"the server failed while it called {tool}"}
            self._channel.send(frame(["reply", said]))
        else:
            self._channel.send(frame(["reply", None], orjson.dumps(value)))


def _call_frame(work: Work) -> bytes:
    caller = work.caller
    facts = {
        "tool": work.tool.name,
        "version": work.tool.version,
        "execution_id": work.execution_id,
        "task_id": work.task_id,
        "caller": (caller.tenant, caller.principal, caller.user),
        "deadline": work.deadline.at,
        "headers": dict(work.trace_headers),
        "result_limit": work.result_limit_bytes,
    }
    return frame(["call", facts], orjson.dumps(work.arguments))
