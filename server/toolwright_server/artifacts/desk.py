"""The artifacts of one execution while its tool runs: counted, bounded, and described once they are whole."""

import threading
from collections.abc import Callable

from toolwright_server.artifacts.model import Artifact, ArtifactLimits, ArtifactRefused, Draft, Written
from toolwright_server.errors import Failure, Reason


class Room:
    """How many bytes all artifacts take together: what is reserved by the desks of this server, and what lies there
    besides. Any thread may ask.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._lock = threading.Lock()
        self._reserved = 0
        self._lying = 0
        self._left = 0

    @property
    def used_bytes(self) -> int:
        """What is reserved, and what lies there besides."""
        with self._lock:
            return self._reserved + self._lying

    @property
    def left_bytes(self) -> int:
        """How much of what was reserved here was left lying, since the start."""
        return self._left

    def take(self, wanted: int, least: int) -> int:
        """Reserve; what was granted, 0 when `least` is too much."""
        with self._lock:
            granted = min(wanted, self._total - self._reserved - self._lying)
            if granted < least:
                return 0
            self._reserved += granted
            return granted

    def give_back(self, size: int) -> None:
        """Reserved, and not used or erased."""
        with self._lock:
            self._reserved -= size

    def leave(self, size: int) -> None:
        """Reserved, and left lying by a desk that is no more."""
        with self._lock:
            self._reserved -= size
            self._lying += size
            self._left += size

    def found(self, size: int, left: int) -> None:
        """So much lay there, beside what is reserved, when `left_bytes` was `left`."""
        with self._lock:
            self._lying = size + self._left - left

    def erased(self, size: int) -> None:
        """Of what was found."""
        with self._lock:
            self._lying -= size


class _Entry:
    __slots__ = ("media_type", "name", "reserved", "written")

    def __init__(self, name: str, media_type: str) -> None:
        self.name = name
        self.media_type = media_type
        self.reserved = 0
        self.written: Written | None = None


class Desk:
    """Drafts (see writing.py) of one execution. `path_of` says where a number is begun."""

    def __init__(self, limits: ArtifactLimits, room: Room, path_of: Callable[[int], str]) -> None:
        self._limits = limits
        self._room = room
        self._path_of = path_of
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._last = 0
        # Also for what was forgotten, and lies there until it is erased.
        self._reserved = 0
        self._is_closed = False

    @property
    def numbers(self) -> range:
        """Every number that was ever begun."""
        return range(1, self._last + 1)

    def open(self, name: str, media_type: str) -> Draft:
        with self._lock:
            if self._is_closed:
                raise ArtifactRefused(Failure(Reason.TOOL_FAILED, "the call has ended: it can have no more artifacts"))
            if len(self._entries) >= self._limits.count:
                message = f"a call may have {self._limits.count} artifacts, and {name!r} would be one more"
                raise ArtifactRefused.beyond("execution", message)
            self._last += 1
            self._entries[self._last] = _Entry(name, media_type)
            return Draft(self._last, self._path_of(self._last))

    def grow(self, number: int, wanted: int, least: int) -> int:
        with self._lock:
            entry = self._entries.get(number)
            if entry is None or entry.written is not None:
                raise ArtifactRefused(Failure(Reason.TOOL_FAILED, "the call has ended: its artifact is gone"))
            left = self._limits.artifact_bytes - entry.reserved
            if least > left:
                message = f"{entry.name!r} has more than the {self._limits.artifact_bytes} bytes of one artifact"
                raise ArtifactRefused.beyond("artifact", message)
            granted = self._room.take(min(wanted, left), least)
            if not granted:
                raise ArtifactRefused.beyond("total", f"all artifacts together leave no room for {entry.name!r}")
            entry.reserved += granted
            self._reserved += granted
            return granted

    def close(self, number: int, written: Written) -> None:
        with self._lock:
            entry = self._entries.get(number)
            if entry is None or entry.written is not None or written.size_bytes > entry.reserved:
                raise ArtifactRefused(Failure(Reason.TOOL_FAILED, "the call has ended: its artifact is gone"))
            self._give_back(entry.reserved - written.size_bytes)
            entry.reserved = written.size_bytes
            entry.written = written

    def abandon(self, number: int) -> None:
        with self._lock:
            entry = self._entries.pop(number, None)
            if entry is not None:
                self._give_back(entry.reserved)

    def begin_anew(self) -> None:
        """The tool is tried again: what it has written is no artifact any more, and takes room until it is erased."""
        with self._lock:
            self._entries.clear()

    def end(self, *, keep: bool, expire_time: float | None, value_number: int = 0) -> tuple[Artifact, ...]:
        """Nothing may follow. What is whole, if it is kept or the value; anything else is to be erased."""
        with self._lock:
            self._is_closed = True
            found = tuple(
                Artifact(
                    number,
                    entry.name,
                    entry.media_type,
                    entry.written.size_bytes,
                    entry.written.sha256,
                    entry.written.preview,
                    expire_time,
                    number == value_number,
                )
                for number, entry in self._entries.items()
                if entry.written is not None and (keep or number == value_number)
            )
            self._entries.clear()
            return found

    def dismiss(self, left_bytes: int | None) -> None:
        """It has ended, and so many bytes are left of it; the rest is erased. None: nobody knows what is left."""
        with self._lock:
            self._is_closed = True
            self._entries.clear()
            left = self._reserved if left_bytes is None else min(left_bytes, self._reserved)
            self._room.leave(left)
            self._give_back(self._reserved - left)
            self._reserved = 0

    def _give_back(self, size: int) -> None:
        self._room.give_back(size)
        self._reserved -= size
