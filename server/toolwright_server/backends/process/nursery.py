"""The fork server as the server sees it: started before gRPC, asked for workers, asked to kill, watched.

One Nursery is one fork server; when it dies, another one is made.
"""

import asyncio
import logging
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import orjson

from toolwright_server.backends.forked.plan import MARK, Bootstrap
from toolwright_server.backends.process.sweep import end_marked

_logger = logging.getLogger(__name__)

_MODULE = "toolwright_server.backends.forked.forkserver"
_MESSAGE_BYTES = 64 * 1024
_DESCRIPTORS = 2
_END_SECONDS = 7.0
_ENDED = "the fork server ended while it loaded the tools; see its standard error"


class NurseryEvents(Protocol):
    """What a fork server says, on the event loop."""

    def born(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        """A worker was forked; it says itself when it is ready."""
        ...

    def barren(self, why: str) -> None:
        """A worker could not be forked."""
        ...

    def buried(self, pid: int, status: int) -> None:
        """A worker and all that it left are dead and reaped."""
        ...

    def lost(self) -> None:
        """The fork server is gone, and so is everybody below it: called when the last of them is dead."""
        ...


class Unfit(Exception):
    """The fork server could not load the tools, or could not be started; the text says why."""


class Nursery:
    """`spawn` may be called before there is an event loop; `attach` connects it with one."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._events: NurseryEvents | None = None
        self._ready: asyncio.Future[None] | None = None
        self._gone: asyncio.Task[None] | None = None
        # Of the workers that are not buried. They belong to the workers, which outlive this fork server's end.
        self._pidfds: dict[int, int] = {}
        self.spawned_at = 0.0

    @property
    def pid(self) -> int:
        """The fork server's process id."""
        assert self._process is not None
        return self._process.pid

    def spawn(self, order: Bootstrap, environment: dict[str, str]) -> None:
        """Start the program. Blocks for the milliseconds that exec takes; forks nothing of this process. OSError."""
        own_end, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = os.memfd_create("toolwright-bootstrap")
        try:
            os.write(boot, order.to_json())
            os.lseek(boot, 0, os.SEEK_SET)
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                # -P: a file of the working directory must not stand in for a library's module.
                [sys.executable, "-P", "-m", _MODULE, str(its_end.fileno())],
                stdin=boot,
                pass_fds=(its_end.fileno(),),
                env={**environment, MARK: self._mark},
                start_new_session=True,
            )
        except BaseException:
            own_end.close()
            raise
        finally:
            os.close(boot)
            its_end.close()
        own_end.setblocking(False)
        self._control = own_end
        self.spawned_at = time.monotonic()

    async def attach(self, events: NurseryEvents) -> None:
        """Wait until the tools are loaded; from then on tell `events` what happens. Raises Unfit."""
        assert self._control is not None
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(self._control.fileno(), self._readable)
        try:
            await self._ready
            if self._gone is not None:
                raise Unfit(_ENDED)  # noqa: TRY301 (in the moment after)
        except Unfit:
            await self.close()
            raise
        # Not before: until then its end is told by Unfit, and only so.
        self._events = events

    def fork(self) -> None:
        """Ask for one more worker: `born` or `barren` will answer."""
        self._say(["fork"])

    def kill(self, pid: int) -> None:
        """Have a worker killed with everything below it: `buried` will answer."""
        self._say(["kill", pid])

    async def close(self) -> None:
        """End the fork server and everybody below it; returns when they are dead. Idempotent."""
        self._events = None
        self._hang_up()
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_task(self._end(events=None))
        await self._gone

    def _say(self, message: list[object]) -> None:
        if self._control is None:
            return
        try:
            self._control.send(orjson.dumps(message))
        except BlockingIOError:
            # Hundreds of unread orders: it hangs. Without it nothing can be killed or confirmed.
            _logger.error(  # noqa: TRY400 (the traceback says nothing)
                "the fork server does not read its orders any more; it is replaced"
            )
            assert self._process is not None
            self._process.kill()
        except OSError:
            pass  # its end is about to be seen

    def _readable(self) -> None:
        while self._control is not None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, _DESCRIPTORS)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._died()
                return
            self._understand(orjson.loads(data), descriptors)

    def _understand(self, message: list[object], descriptors: list[int]) -> None:
        events, ready = self._events, self._ready
        match message:
            case ["ready", int(), int(threads)]:
                if threads:
                    _logger.warning(
                        "importing the tools started %d threads in the fork server: they do not exist in workers, and "
                        "locks that they hold stay locked there; start threads when a tool is called",
                        threads,
                    )
                if ready is not None and not ready.done():
                    ready.set_result(None)
            case ["unfit", str(why)]:
                if ready is not None and not ready.done():
                    ready.set_exception(Unfit(why))
            case ["born", int(pid)]:
                connection = socket.socket(fileno=descriptors[0])
                if events is None:
                    connection.close()
                    os.close(descriptors[1])
                else:
                    self._pidfds[pid] = descriptors[1]
                    events.born(pid, descriptors[1], connection)
            case ["barren", str(why)] if events is not None:
                events.barren(why)
            case ["buried", int(pid), int(status)] if events is not None:
                del self._pidfds[pid]
                events.buried(pid, status)
            case _:
                pass

    def _hang_up(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None

    def _died(self) -> None:
        self._hang_up()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(Unfit(_ENDED))
        elif self._gone is None:
            self._gone = asyncio.get_running_loop().create_task(self._end(self._events))

    async def _end(self, events: NurseryEvents | None) -> None:
        """Wait for its end; whoever it left alive, having been killed itself, is found by the mark."""
        assert self._process is not None
        try:
            await asyncio.to_thread(self._process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        left = await asyncio.to_thread(end_marked, f"{MARK}={self._mark}".encode(), [*self._pidfds.values()])
        if left:
            _logger.error("processes %s of the fork server's could not be ended", left)
        if events is not None:
            events.lost()


def python_path(folder: str) -> list[str]:
    """Where this process finds modules, for another process to look there too."""
    return [entry or folder for entry in sys.path if Path(entry or folder).exists()]
