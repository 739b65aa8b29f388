"""Writes one artifact: chunk by chunk into a file, which gets its name only when it is whole and safe on the disk.

Runs in the server's threads and in worker processes, so it imports no asyncio. Bytes never pass through the server's
memory when a worker writes them.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from toolwright_server.artifacts.model import ArtifactRefused, Draft, Written, checked_media_type, checked_name
from toolwright_server.artifacts.preview import HEAD_BYTES, preview
from toolwright_server.errors import Failure, Reason

PART: Final = ".part"
MODE: Final = 0o600
DEFAULT_TYPE: Final = "application/octet-stream"
# Room is asked for in such steps: a small artifact asks once, a large one seldom.
STEP_BYTES: Final = 4 * 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Drafts(Protocol):
    """Where artifacts of one execution are begun and ended. May be called from any thread; never waits for long."""

    def open(self, name: str, media_type: str) -> Draft:
        """Begin one. Raises ArtifactRefused."""
        ...

    def grow(self, number: int, wanted: int, least: int) -> int:
        """Room for so many bytes more: what was granted, between the two. Raises ArtifactRefused."""
        ...

    def close(self, number: int, written: Written) -> None:
        """It is whole, on the disk, and has its name."""
        ...

    def abandon(self, number: int) -> None:
        """It is not wanted any more, and its file is gone."""
        ...


class ArtifactFile:
    """The file of one artifact: `with context.artifact("report.csv", "text/csv") as file: file.write(chunk)`.

    Leaving the block by an exception leaves nothing of it behind. May be used by one thread at a time.
    """

    def __init__(self, begin: Callable[[], Drafts], name: str, media_type: str) -> None:
        self._begin = begin
        self._name = checked_name(name)
        self._media_type = checked_media_type(media_type)
        self._lock = threading.Lock()
        self._drafts: Drafts | None = None
        self._draft: Draft | None = None
        # Where it lies at the moment.
        self._path = Path()
        self._file = -1
        self._size = 0
        self._room = 0
        self._digest = hashlib.sha256()
        self._head = b""
        self._refused: ArtifactRefused | None = None

    @property
    def size_bytes(self) -> int:
        """What was written so far."""
        return self._size

    @property
    def number(self) -> int:
        """Of the artifact in its execution; 0 before it was begun."""
        return 0 if self._draft is None else self._draft.number

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def open(self) -> None:
        """Begin. Raises ArtifactRefused."""
        with self._lock:
            if self._draft is not None:
                raise ValueError("an artifact is written once")
            if self._refused is not None:
                # It was given up before a thread came to begin it.
                raise self._refused
            self._drafts = self._begin()
            self._draft = self._drafts.open(self._name, self._media_type)
            self._path = Path(self._draft.path)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._file = os.open(self._path, flags, MODE)
            except OSError as error:
                raise self._fail(_refusal(error)) from error

    def write(self, chunk: str | bytes | bytearray | memoryview) -> int:
        """Append bytes, or text as UTF-8; how many bytes that was. Raises ArtifactRefused."""
        data = memoryview(chunk.encode() if isinstance(chunk, str) else chunk).cast("B")
        with self._lock:
            self._check()
            size = len(data)
            if size > self._room:
                self._reserve(size)
            try:
                self._append(data)
            except OSError as error:
                raise self._fail(_refusal(error)) from error
            self._digest.update(data)
            if len(self._head) < HEAD_BYTES:
                self._head += bytes(data[: HEAD_BYTES - len(self._head)])
            self._size += size
            self._room -= size
        return size

    def close(self) -> None:
        """Make it whole: on the disk, under its name, described. Raises ArtifactRefused."""
        with self._lock:
            self._check()
            draft, drafts = self._draft, self._drafts
            assert draft is not None
            assert drafts is not None
            try:
                os.fsync(self._file)
                os.close(self._file)
                self._file = -1
                self._path = self._path.rename(draft.path.removesuffix(PART))
                _sync_folder(self._path.parent)
            except OSError as error:
                raise self._fail(_refusal(error)) from error
            is_whole = self._size <= len(self._head)
            written = Written(self._size, self._digest.hexdigest(), preview(self._head, is_whole=is_whole))
            self._refused = _ended()
            try:
                drafts.close(draft.number, written)
            except ArtifactRefused as error:
                raise self._fail(error) from None

    def abort(self) -> None:
        """Leave nothing of it behind."""
        with self._lock:
            if self._refused is None:
                self._fail(_ended())

    def _check(self) -> None:
        if self._draft is None:
            raise ValueError("the artifact was not begun: write to it in its `with` block")
        if self._refused is not None:
            raise self._refused

    def _reserve(self, size: int) -> None:
        assert self._draft is not None
        assert self._drafts is not None
        least = size - self._room
        try:
            self._room += self._drafts.grow(self._draft.number, max(least, STEP_BYTES), least)
        except ArtifactRefused as error:
            raise self._fail(error) from None

    def _append(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._file, data) :]

    def _fail(self, refusal: ArtifactRefused) -> ArtifactRefused:
        """Refuse whatever follows, and take away what is there."""
        self._refused = refusal
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._draft is not None and self._drafts is not None:
            with suppress(OSError):
                self._path.unlink()
            self._drafts.abandon(self._draft.number)
        return refusal


def _ended() -> ArtifactRefused:
    return ArtifactRefused(Failure(Reason.TOOL_FAILED, "the artifact has ended: nothing more can be written to it"))


def _refusal(error: OSError) -> ArtifactRefused:
    if error.errno in _FULL:
        return ArtifactRefused.beyond("disk", "the disk of the server has no room for the artifact")
    return ArtifactRefused(
        Failure(Reason.TOOL_FAILED, f"the artifact cannot be written: {os.strerror(error.errno or errno.EIO)}")
    )


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
