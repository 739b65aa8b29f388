"""Erases the bytes that no row names: expired ones, those of erased executions, and what a killed server left.

Runs at the start, when recovery has settled executions of dead servers, and once in every interval.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from toolwright_server.artifacts.keeper import ArtifactKeeper
from toolwright_server.artifacts.model import Artifact
from toolwright_server.artifacts.store import Lying
from toolwright_server.errors import ToolwrightError

_logger = logging.getLogger(__name__)

# Rows are asked for in such batches.
BATCH: Final = 500
# A row may come later than its artifacts: an intent that nobody waits for, an outcome that another server wrote down.
YOUNG_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Known:
    """What the record says of an execution. `is_doubtful`: it may yet be found that it ended otherwise."""

    ended: bool
    is_doubtful: bool
    artifacts: Sequence[Artifact]


class ArtifactRows(Protocol):
    """The record, as far as artifacts are concerned."""

    async def known(self, execution_ids: Sequence[str]) -> Mapping[str, Known]:
        """What is known of these executions; unknown ones are left out. Raises STORE_UNAVAILABLE."""
        ...


class Sweep:
    """See the module. `erased` counts files since the start."""

    def __init__(
        self,
        keeper: ArtifactKeeper,
        rows: ArtifactRows,
        interval_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keeper = keeper
        self._rows = rows
        self._interval = interval_seconds
        self._clock = clock
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.erased = 0

    def start(self) -> None:
        """Sweep in the background, now and after every interval, until `close`."""
        self._task = asyncio.get_running_loop().create_task(self._keep_on(), name="artifact sweep")

    def soon(self) -> None:
        """Sweep now."""
        self._wanted.set()

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def run(self) -> None:
        """Sweep once. Raises ToolwrightError or OSError when that is not possible now: nothing is lost then."""
        room, mine, left = self._keeper.room, self._keeper.at_work, self._keeper.room.left_bytes
        found = await self._keeper.store.lying()
        # What is being written here, or was when this began, its desk counts: it has reserved more than it has written.
        # Only what was begun and ended meanwhile may be counted twice, until the next time.
        mine |= self._keeper.at_work
        lying = [file for file in found if file.execution_id not in mine]
        # At once: what lies there takes room also when the record cannot be asked.
        room.found(_size(lying), left)
        for start in range(0, len(lying), BATCH):
            gone = await self._unwanted(lying[start : start + BATCH])
            which: dict[str, list[int]] = {}
            for file in gone:
                which.setdefault(file.execution_id, []).append(file.number)
            if which:
                await self._keeper.store.erase(which)
                self.erased += len(gone)
                room.erased(_size(gone))

    async def _unwanted(self, files: Sequence[Lying]) -> list[Lying]:
        known = await self._rows.known(sorted({file.execution_id for file in files}))
        now = self._clock()
        return [file for file in files if not _is_wanted(file, known.get(file.execution_id), now)]

    async def _keep_on(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self.run()
            except (ToolwrightError, OSError) as error:
                _logger.warning("artifacts that nobody can read any more could not be erased: %s", error)
            except Exception:
                _logger.exception("erasing artifacts that nobody can read any more failed")
            try:
                async with asyncio.timeout(self._interval):
                    await self._wanted.wait()
            except TimeoutError:
                pass


def _size(files: Sequence[Lying]) -> int:
    return sum(file.size_bytes for file in files)


def _is_wanted(file: Lying, known: Known | None, now: float) -> bool:
    if known is not None and not known.ended:
        return True
    if known is None or (known.is_doubtful and file.is_whole):
        return now - file.time < YOUNG_SECONDS
    for artifact in known.artifacts:
        if file.is_whole and artifact.number == file.number:
            return artifact.expire_time is None or now < artifact.expire_time
    return False
