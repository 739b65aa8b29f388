"""How a server process and its supervisor talk, seen from the process: it is asked how it is, and told to end.

A thread of its own answers, so that it does while the event loop is blocked, and so that the loop never waits for a
supervisor that does not read.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import orjson

from toolwright_server.telemetry.frames import framed, read_frames
from toolwright_server.telemetry.instruments import MetricSnapshot

_logger = logging.getLogger(__name__)

ASK, END = "ask", "end"
_LAST_SECONDS = 1.0


class Report(TypedDict):
    """How a process is: `why` says what is wrong when it is not healthy."""

    healthy: bool
    why: str
    metrics: Sequence[MetricSnapshot]


class SupervisorLink:
    """`start` before the event loop, `obey` on it, `ready` when it serves, `close` at the end.

    Messages out: `{"ready": address}` and `{"report": ...}`. In: the texts `ask` and `end`.
    """

    def __init__(self, connection: socket.socket, number: int) -> None:
        """`number`: which of the processes this is, from 1."""
        self.number = number
        self._connection = connection
        self._sending = threading.Lock()
        self._changing = threading.Lock()
        self._report: Callable[[], Report] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: Callable[[], None] | None = None
        self._told = 0

    @property
    def is_told(self) -> bool:
        """Whether the process has been told to end."""
        return self._told > 0

    def start(self, report: Callable[[], Report]) -> None:
        """Listen from now on; `report` is called in the thread."""
        self._report = report
        threading.Thread(target=self._listen, name="toolwright-supervisor", daemon=True).start()

    def obey(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        """Have `end` called on `loop` whenever the process is told to end, also for when it was told before."""
        with self._changing:
            self._loop, self._end = loop, end
            told = self._told
        for _ in range(told):
            end()

    async def ready(self, address: str) -> None:
        """The process serves on this address."""
        await asyncio.to_thread(self._send, {"ready": address})

    async def close(self) -> None:
        """Give a last report: what was counted since the one before. Waits no longer than a second."""
        self._connection.settimeout(_LAST_SECONDS)
        await asyncio.to_thread(self._answer)

    def _listen(self) -> None:
        # Ends with the supervisor, and then the kernel ends this process.
        with self._connection.makefile("rb") as stream:
            try:
                for payload in read_frames(stream):
                    if orjson.loads(payload) == ASK:
                        self._answer()
                    else:
                        self._order()
            except OSError:
                pass  # as above, or this process has given its last report

    def _order(self) -> None:
        with self._changing:
            self._told += 1
            loop, end = self._loop, self._end
        if loop is not None and end is not None:
            try:
                loop.call_soon_threadsafe(end)
            except RuntimeError:
                pass  # the loop is closed: it is ending already

    def _answer(self) -> None:
        assert self._report is not None
        try:
            self._send({"report": self._report()})
        except Exception:
            # Who cannot report today must be able to hear that it should end.
            _logger.exception("no report for the supervisor")

    def _send(self, message: dict[str, Any]) -> None:
        payload = framed(orjson.dumps(message))
        # A supervisor that stands still must not keep a process from ending.
        if not self._sending.acquire(timeout=_LAST_SECONDS):
            return
        try:
            self._connection.sendall(payload)
        except OSError:
            pass  # nobody is there any more
        finally:
            self._sending.release()
