"""The artifacts of all executions: opens a desk for each that wants one, keeps what is whole, erases the rest."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from toolwright_server.artifacts.desk import Desk, Room
from toolwright_server.artifacts.model import VALUE_NAME, VALUE_TYPE, Artifact, ArtifactLimits, ArtifactRefused
from toolwright_server.artifacts.store import ArtifactStore
from toolwright_server.artifacts.writing import ArtifactFile

_logger = logging.getLogger(__name__)


class ArtifactKeeper:
    """`keep_seconds`: how long artifacts may be read after the end of their executions; None: as long as those are
    kept. Belongs to the event loop; desks may be opened and used from any thread.
    """

    def __init__(self, store: ArtifactStore, limits: ArtifactLimits, keep_seconds: float | None) -> None:
        self.store = store
        self.room = Room(limits.total_bytes)
        self._limits = limits
        self._keep_seconds = keep_seconds
        # What is being written, or not recorded yet: nobody else may erase it.
        self._desks: dict[str, Desk] = {}
        self._erasing: set[asyncio.Task[None]] = set()

    def desk(self, execution_id: str) -> Desk:
        """For the artifacts of a call that runs now, which has no other one; `end` and `dismiss` must follow."""
        desk = self._desks[execution_id] = Desk(self._limits, self.room, partial(self.store.path, execution_id))
        return desk

    @property
    def at_work(self) -> set[str]:
        """The executions whose artifacts are being written, or not recorded yet."""
        return set(self._desks)

    async def moved(self, desk: Desk, value: bytes) -> int:
        """Write a returned value down as an artifact: its number, or 0 when it gets no place."""
        file = ArtifactFile(lambda: desk, VALUE_NAME, VALUE_TYPE)
        try:
            return await asyncio.to_thread(_written, file, value)
        except ArtifactRefused as error:
            _logger.warning("a large value is answered inline: %s", error)
            return 0

    def end(self, desk: Desk, end_time: float, *, keep: bool, value_number: int = 0) -> tuple[Artifact, ...]:
        """The call has ended: what is kept of its artifacts. Unless `keep`, that is the moved value alone."""
        expire_time = None if self._keep_seconds is None else end_time + self._keep_seconds
        return desk.end(keep=keep, expire_time=expire_time, value_number=value_number)

    def dismiss(self, execution_id: str, desk: Desk, kept: Sequence[Artifact]) -> None:
        """It is recorded: erase, in the background, what was begun and is not kept."""
        # Also a desk that was opened too late to be ended, or whose call broke off.
        desk.end(keep=False, expire_time=None)
        gone = sorted(set(desk.numbers) - {artifact.number for artifact in kept})
        size = sum(artifact.size_bytes for artifact in kept)
        if not gone:
            self._let_go(execution_id, desk, size)
            return
        task = asyncio.get_running_loop().create_task(self._erase(execution_id, desk, gone, size), name="artifacts")
        self._erasing.add(task)
        task.add_done_callback(self._erasing.discard)

    async def close(self) -> None:
        """Wait for what is being erased."""
        if self._erasing:
            await asyncio.wait(self._erasing)

    async def _erase(self, execution_id: str, desk: Desk, numbers: Sequence[int], size: int) -> None:
        left: int | None = None
        try:
            await self.store.erase({execution_id: numbers})
            left = size
        except OSError:
            # Whoever sweeps finds it.
            _logger.exception("unwanted artifacts of %s could not be erased", execution_id)
        finally:
            self._let_go(execution_id, desk, left)

    def _let_go(self, execution_id: str, desk: Desk, left: int | None) -> None:
        desk.dismiss(left)
        self._desks.pop(execution_id, None)


def _written(file: ArtifactFile, value: bytes) -> int:
    with file:
        file.write(value)
    return file.number
