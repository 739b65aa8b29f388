"""One process of the server as its supervisor sees it, from its start to its end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from toolwright_server.supervision.link import ASK, END, Report
from toolwright_server.supervision.order import ProcessOrder
from toolwright_server.telemetry.frames import framed

_LENGTH_BYTES = 4
# A report of every instrument with all the series that it may have is far below.
_LARGEST_BYTES = 64 * 1024 * 1024
_LAST_SECONDS = 1.0


class ServerProcess:
    """Made on the event loop of the supervisor's main thread: the kernel ends the process when that thread is gone.

    `served_at` is when it first said that it serves, by `clock`; `report` the last one it gave.
    """

    def __init__(
        self, order: ProcessOrder, command: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start it: `command` is what Python is to run, and gets its name, for people, and the descriptor of the link.

        Blocks for the milliseconds that exec takes; forks nothing of this process. Raises OSError.
        """
        self.server_id = order.server_id
        self.address = ""
        self.served_at: float | None = None
        self.report: Report | None = None
        self._clock = clock
        self._process, self._pidfd, self._link = _spawned(order, command)
        self._link.setblocking(False)
        self._waiting: list[asyncio.Future[None]] = []
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        loop.add_reader(self._pidfd, self._reap)
        self._reading = loop.create_task(self._read(), name=f"link of {self.server_id}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def served_seconds(self) -> float:
        """For how long it has served; 0 before."""
        return 0.0 if self.served_at is None else self._clock() - self.served_at

    async def ask(self, seconds: float) -> bool:
        """Have it report; False when it does not in so many seconds."""
        if self.ended.done() or self.served_at is None:
            return False
        answered = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        # Who asks while another one waits gets the same answer.
        if len(self._waiting) == 1:
            self._say(ASK)
        done, _ = await asyncio.wait((answered,), timeout=seconds)
        if not done and answered in self._waiting:
            self._waiting.remove(answered)
        return bool(done) and not answered.cancelled()

    def end(self) -> None:
        """Tell it to drain; told again, to hurry."""
        self._say(END)

    def kill(self) -> None:
        """End it at once."""
        if not self.ended.done():
            self._process.send_signal(signal.SIGKILL)

    def _say(self, word: str) -> None:
        try:
            self._link.send(framed(orjson.dumps(word)))
        except OSError:
            pass  # it is gone, which is noticed elsewhere; or it has not read thousands of words, and is killed in time

    async def _read(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=self._link)
        except OSError:
            return
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
                if size > _LARGEST_BYTES:
                    return
                self._understand(orjson.loads(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            pass  # it has ended
        finally:
            writer.close()

    def _understand(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.address, self.served_at = message["ready"], self._clock()
            self.ready.set_result(None)
        else:
            self.report = message["report"]
            waiting, self._waiting = self._waiting, []
            for answered in waiting:
                if not answered.done():
                    answered.set_result(None)

    def _reap(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # What it said last is read first; not for ever, should somebody else hold its end of the link.
        asyncio.get_running_loop().call_later(_LAST_SECONDS, self._reading.cancel)
        self._reading.add_done_callback(lambda _: self._finish(code))

    def _finish(self, code: int) -> None:
        for answered in self._waiting:
            answered.cancel()
        self.ended.set_result(code)


def said(code: int) -> str:
    """How a process ended, in words. `code` as subprocess gives it: negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _spawned(order: ProcessOrder, command: Sequence[str]) -> "tuple[subprocess.Popen[bytes], int, socket.socket]":
    """The process, its descriptor, and this end of the link."""
    own_end, its_end = socket.socketpair()
    boot = os.memfd_create("toolwright-order")
    try:
        os.write(boot, order.to_json())
        os.lseek(boot, 0, os.SEEK_SET)
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            # -P: a file of the working directory must not stand in for a library's module.
            [sys.executable, "-P", *command, order.server_id, str(its_end.fileno())],
            stdin=boot,
            pass_fds=(its_end.fileno(),),
            # A terminal's Ctrl-C is for the supervisor, which then ends this in its own way.
            start_new_session=True,
        )
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            # Nobody would hear of its end.
            process.kill()
            process.wait()
            raise
    except BaseException:
        own_end.close()
        raise
    finally:
        os.close(boot)
        its_end.close()
    return process, pidfd, own_end
