"""The exporter process as the server sees it: frames go down its standard input, reports come back on its output.

Nothing here blocks the event loop: what the pipe does not take at once waits in a bounded backlog, and what does not
fit there is refused. The process is started before gRPC and is not restarted.
"""

import asyncio
import fcntl
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence

import orjson

from toolwright_server.telemetry.frames import framed

_logger = logging.getLogger(__name__)

_PIPE_BYTES = 1024 * 1024  # what Linux grants without privileges

Report = Callable[[int, str | None], None]
"""(spans that the exporter has done with, why they failed or None)."""


class ExporterPipe:
    """One exporter process. `command` is its argument list; `on_report` learns what became of the spans."""

    def __init__(self, command: Sequence[str], *, backlog_max_bytes: int, on_report: Report) -> None:
        self._command = list(command)
        self._backlog_max_bytes = backlog_max_bytes
        self._on_report = on_report
        self._backlog: deque[memoryview] = deque()
        self._backlog_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writing = False
        self._reported = bytearray()
        self._unanswered = 0
        self._answered = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether frames can still be sent."""
        return self._process is not None and self._process.stdin is not None

    @property
    def pid(self) -> int | None:
        """The exporter's process id, None before it is started."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process, in a session of its own so that the terminal's signals do not reach it."""
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, *self._command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        try:
            fcntl.fcntl(process.stdin.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            pass  # the user's pipe quota is used up: the backlog makes up for a small pipe
        self._process = process

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let `loop` write and read from now on; what was sent before waits in the backlog."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._loop = loop
        loop.add_reader(self._process.stdout.fileno(), self._read_reports)
        self._write()

    def send(self, payload: bytes, spans: int = 0) -> bool:
        """Send one frame that carries `spans` spans; False when it was refused: process gone, or backlog full."""
        if not self.alive or self._backlog_bytes + len(payload) > self._backlog_max_bytes:
            return False
        frame = memoryview(framed(payload))
        self._backlog.append(frame)
        self._backlog_bytes += len(frame)
        self._unanswered += spans
        if not self._writing:
            self._write()
        return self.alive

    async def drain(self, seconds: float) -> bool:
        """Wait until every span sent is reported on, at most `seconds`; False when some are not."""
        try:
            async with asyncio.timeout(seconds):
                while self._unanswered > 0 and self.alive:
                    await self.next_report()
        except TimeoutError:
            pass
        return self._unanswered <= 0

    async def next_report(self) -> None:
        """Wait until the exporter says something, or ends."""
        self._answered.clear()
        await self._answered.wait()

    async def close(self, seconds: float) -> bool:
        """Drain, close the pipe, wait for the end, `seconds` in all; False when spans were lost or it was killed."""
        process = self._process
        if process is None:
            return True
        began = asyncio.get_running_loop().time()
        drained = await self.drain(seconds)
        self._detach()
        left = max(0.2, seconds - (asyncio.get_running_loop().time() - began))
        ended = await asyncio.to_thread(_ended, process, left)
        if process.stdout is not None:
            process.stdout.close()
        return drained and ended

    def _detach(self) -> None:
        process, loop = self._process, self._loop
        if process is None or process.stdin is None:
            return
        if loop is not None and process.stdout is not None:
            loop.remove_reader(process.stdout.fileno())
            loop.remove_writer(process.stdin.fileno())
        try:
            process.stdin.close()
        except OSError:
            pass  # nothing is buffered in the file object: the descriptor is closed all the same
        process.stdin = None

    def _write(self) -> None:
        if self._loop is None or self._process is None or self._process.stdin is None:
            return
        descriptor = self._process.stdin.fileno()
        try:
            while self._backlog:
                written = os.write(descriptor, self._backlog[0])
                self._backlog_bytes -= written
                rest = self._backlog[0][written:]
                if rest:
                    self._backlog[0] = rest
                else:
                    self._backlog.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        self._watch(descriptor, self._loop)

    def _watch(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        if self._backlog and not self._writing:
            loop.add_writer(descriptor, self._write)
        elif not self._backlog and self._writing:
            loop.remove_writer(descriptor)
        self._writing = bool(self._backlog)

    def _lost(self) -> None:
        lost, self._unanswered = self._unanswered, 0
        self._backlog.clear()
        self._backlog_bytes = 0
        self._detach()
        self._answered.set()
        self._on_report(lost, "exporter_gone")
        _logger.error(
            "the telemetry exporter process has ended: spans and OTLP metrics are lost until the server is restarted"
        )

    def _read_reports(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            chunk = os.read(self._process.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        if not chunk:
            self._lost()
            return
        self._reported += chunk
        *lines, rest = self._reported.split(b"\n")
        self._reported = bytearray(rest)
        for line in lines:
            report = orjson.loads(line)
            self._unanswered -= report["spans"]
            self._on_report(report["spans"], report["error"])
        self._answered.set()


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the process; kill it when it takes longer, so that the server leaves nothing behind."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
