"""One of the places behind the port: keeps a process in it, and puts another one there when it ends unasked."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from toolwright_server.supervision.backoff import Backoff
from toolwright_server.supervision.link import Report
from toolwright_server.supervision.process import ServerProcess, said

_logger = logging.getLogger(__name__)


class Chronicle(Protocol):
    """Who keeps what processes counted when they are no more."""

    def retire(self, report: Report) -> None:
        """A process has ended, and this was its last report."""
        ...

    def replaced(self) -> None:
        """Another process takes the place of one that ended unasked."""
        ...


class Slot:
    """See the module. `start` makes the next process."""

    def __init__(self, start: Callable[[], ServerProcess], backoff: Backoff, chronicle: Chronicle) -> None:
        self._start = start
        self._backoff = backoff
        self._chronicle = chronicle
        self._ending = asyncio.Event()
        self.process: ServerProcess | None = None

    def start(self) -> ServerProcess:
        """Put a process there, if there is none yet. Raises OSError."""
        if self.process is None:
            self.process = self._start()
        return self.process

    async def run(self) -> int | None:
        """Until it was told to end and its process has ended: the exit code, None when none was running then."""
        while not self._ending.is_set():
            code, what, served_seconds = await self._lived()
            if self._ending.is_set():
                return code
            await self._pause(what, served_seconds)
            if self._ending.is_set():
                return None
            self.process = None
            self._chronicle.replaced()
        return None

    def end(self) -> None:
        """Drain; told again, hurry. From here on nobody is replaced."""
        process, hurry = self.process, self._ending.is_set()
        self._ending.set()
        if process is None:
            return
        process.end()
        if hurry and process.served_at is None:
            # It has taken no call, and might be waiting for a database that does not answer.
            process.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self.process is not None:
            self.process.kill()

    async def _lived(self) -> tuple[int | None, str, float]:
        """The life of one process: its exit code, how it ended, and for how many seconds it served."""
        try:
            process = self.start()
        except OSError as error:
            return None, f"a server process cannot be started: {error.strerror}", 0.0
        code = await process.ended
        if process.report is not None:
            self._chronicle.retire(process.report)
            process.report = None
        return code, f"server process {process.server_id} (pid {process.pid}) {said(code)}", process.served_seconds

    async def _pause(self, what: str, served_seconds: float) -> None:
        seconds = self._backoff.after(served_seconds)
        _logger.warning("%s; the next one is started %s", what, f"in {seconds:g} s" if seconds else "now")
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            pass
