"""Outcomes that the database did not take, written down beside it, and given to it when it takes them.

Only outcomes: before a tool is started nothing needs to be written down, since the call can be refused.
"""

import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import orjson

from toolwright_server.errors import Reason, SettingsError, ToolwrightError
from toolwright_server.execution.model import Execution, State
from toolwright_server.records.audit.model import Entry
from toolwright_server.stores.sql import rows
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.spill_file import SpillFile

_logger = logging.getLogger(__name__)

_FOLDER: Final = "spill"
# Servers that share a data directory, as several on one PostgreSQL may: a file for each.
_FILES: Final = 64
_HEAD: Final = struct.Struct("<I")
_LABELS: Final = 18

# Keeps an outcome unless the record says more; the state that it found in the record, None when there was no row.
Restore = Callable[[Execution, Sequence[Entry], bool], Awaitable[State | None]]


class OutcomeSpill:
    """See the module. `waiting` outcomes are not in the database yet; `refused` could not be written down either, and
    are given to the database only if this process lives until it takes them.
    """

    def __init__(self, files: Sequence[SpillFile]) -> None:
        # The first one is written to; the others were left behind by servers that are dead. Of each, how far it was
        # given to the database.
        self._own = files[0]
        self._given_to = {file: file.begin for file in files}
        self.waiting = sum(1 for file in files for _ in file.after(file.begin))
        self.refused = 0
        # In memory, as much as a file would hold.
        self._remembered: deque[bytes] = deque()
        self._room = self._own.size

    @classmethod
    def open(cls, data_dir: Path, size_bytes: int) -> Self:
        """Take the space now, and whatever dead servers left in this data directory. Raises SettingsError."""
        taken: list[SpillFile] = []
        try:
            for number in range(_FILES):
                path = data_dir / _FOLDER / f"{number}.spill"
                if taken and not path.exists():
                    break
                file = SpillFile.open(path, size_bytes)
                if file is not None:
                    taken.append(file)
        except OSError as error:
            for file in taken:
                file.close()
            raise SettingsError(
                f"{size_bytes} bytes for outcomes that the database cannot take (spill_limit_bytes) are not to be had "
                f"in {data_dir / _FOLDER}: {error.strerror}"
            ) from error
        if not taken:
            raise SettingsError(f"{_FILES} servers use the data directory {data_dir}: give this one its own")
        return cls(taken)

    @property
    def used_bytes(self) -> int:
        """What is written down and not in the database."""
        return sum(file.used_bytes for file in self._given_to)

    def keep(self, change: Change) -> bool:
        """Write an outcome down, durably; False when there is no room. Blocks for one write to disk."""
        if change.execution is None or change.statements or change.work is not None:
            return False
        if not self._own.append(_encoded(change)):
            self.refused += 1
            _logger.error(
                "the outcome of %s cannot be written down either: the file %s is full or cannot be written",
                change.execution.execution_id,
                self._own.path,
            )
            return False
        if not self.waiting:
            _logger.warning("outcomes are written to %s until the database takes them", self._own.path)
        self.waiting += 1
        return True

    def remember(self, change: Change) -> bool:
        """Hold an outcome that could not be written down; False when there is too much of it."""
        payload = _encoded(change)
        if len(payload) > self._room:
            return False
        self._room -= len(payload)
        self._remembered.append(payload)
        self.waiting += 1
        return True

    async def drain(self, restore: Restore, kept: Callable[[str], None]) -> None:
        """Give everything to the database, in its order; as cheap as a look when there is nothing.

        `kept` is told of each execution whose outcome is there now. Raises STORE_UNAVAILABLE when the database cannot
        take it yet: what it took already is not given again by this server.
        """
        if not self.waiting:
            return
        for file in reversed(self._given_to.copy()):
            # More may be written down while this goes on.
            for payload, end in file.after(self._given_to[file]):
                kept(await self._give(payload, restore))
                self._given_to[file] = end
                self.waiting -= 1
            self._clear(file)
        while self._remembered:
            kept(await self._give(self._remembered[0], restore))
            self._room += len(self._remembered.popleft())
            self.waiting -= 1
        _logger.info("all outcomes that were kept beside the database are in it now")

    def close(self) -> None:
        """Give the files back; what is in them is read by the next server that starts here."""
        for file in self._given_to:
            file.close()

    def _clear(self, file: SpillFile) -> None:
        try:
            file.clear()
        except OSError:
            # They are given again at the next start, and found to be there.
            _logger.exception("%s cannot be emptied", file.path)
            return
        if file is self._own:
            self._given_to[file] = file.begin
        else:
            del self._given_to[file]
            file.close()

    async def _give(self, payload: bytes, restore: Restore) -> str:
        execution, entries, frees = _decoded(payload)
        execution_id = execution.execution_id
        try:
            found = await restore(execution, entries, frees)
        except ToolwrightError as error:
            if error.failure.reason is Reason.STORE_UNAVAILABLE:
                raise
            _logger.exception("the database refuses the outcome of %s (%s)", execution_id, execution.state.name)
            found = None
        if found is not None and found.value >= _FIRST_ENDED and found not in (State.OUTCOME_UNKNOWN, execution.state):
            _logger.error(
                "%s ended as %s, but was settled as %s before that could be recorded: the record stays as it is",
                execution_id,
                execution.state.name,
                found.name,
            )
        return execution_id


_FIRST_ENDED: Final = State.SUCCEEDED.value


def _encoded(change: Change) -> bytes:
    """Length of the JSON text, the JSON text, and then the columns that are bytes, one after the other."""
    assert change.execution is not None
    row = rows.values(change.execution)
    blobs = {number: value for number, value in enumerate(row) if isinstance(value, bytes)}
    head = orjson.dumps(
        {
            "row": [None if number in blobs else value for number, value in enumerate(row)],
            "blobs": [[number, len(value)] for number, value in blobs.items()],
            "entries": [list(entry) for entry in change.entries],
            "frees": change.frees,
        }
    )
    return b"".join((_HEAD.pack(len(head)), head, *blobs.values()))


def _decoded(payload: bytes) -> tuple[Execution, Sequence[Entry], bool]:
    offset = _HEAD.size + _HEAD.unpack_from(payload)[0]
    head: dict[str, Any] = orjson.loads(payload[_HEAD.size : offset])
    row = head["row"]
    for number, length in head["blobs"]:
        row[number] = payload[offset : offset + length]
        offset += length
    if row[_LABELS] is not None:
        row[_LABELS] = orjson.loads(row[_LABELS])
    return rows.execution(row), [Entry(*entry) for entry in head["entries"]], head["frees"]
