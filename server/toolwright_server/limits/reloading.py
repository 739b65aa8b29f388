"""Follows the limits file while the server runs: what it says holds as soon as it is right, and until then what held.

Never stops a call: a file that is wrong, or gone, is a line in the log.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from toolwright_server.errors import SettingsError
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rulefile import read, ready_made
from toolwright_server.limits.rules import Rules

_logger = logging.getLogger(__name__)

_Signature = tuple[int, int, int]


class RuleFile:
    """The rules of a server: those that come with it, with those of a file before them if one is named.

    `pause` waits between two looks at the file, `refused` is told of each change that could not be used. Reads the file
    at once. Raises SettingsError when it cannot be used.
    """

    def __init__(
        self,
        path: Path | None,
        every_seconds: float,
        *,
        refused: Callable[[], None] = lambda: None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._every_seconds = every_seconds
        self._refused = refused
        self._pause = pause
        # Before it is read: a change in between is then seen at the next look.
        self._seen = _signature(path) if path is not None else None
        self.rulebook = Rulebook(read(path) if path is not None else ready_made())
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look at the file again and again, until `close`. Does nothing when none is named."""
        if self._path is not None:
            self._task = asyncio.get_running_loop().create_task(self._keep_looking(), name="limits file")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def look(self) -> None:
        """Let the file's rules hold if it was changed. Disks are slow: the event loop does not wait for them."""
        try:
            rules = await asyncio.to_thread(self._changed)
        except SettingsError as error:
            self._refused()
            _logger.error("the limits stay as they were: %s", str(error).replace("\n", "; "))  # noqa: TRY400
            return
        if rules is not None:
            self.rulebook.replace(rules)
            _logger.info("the limits are now those of %s", self._path)

    def _changed(self) -> Rules | None:
        """The rules of a file that is not as it was seen last. Raises SettingsError, once for each change."""
        assert self._path is not None
        signature = _signature(self._path)
        if signature == self._seen:
            return None
        self._seen = signature
        return read(self._path)

    async def _keep_looking(self) -> None:
        while True:
            await self._pause(self._every_seconds)
            try:
                await self.look()
            except Exception:
                # A defect here must not be the last look.
                _logger.exception("the limits file could not be looked at")


def _signature(path: Path) -> _Signature | None:
    """What changes when a file does, links that lead elsewhere as well; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
