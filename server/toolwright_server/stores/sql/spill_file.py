"""A file of a fixed size for records that must not be lost: its space is taken before it is needed.

    0      header: magic, generation, digest (40 bytes)
    2048   header again: the one with the higher generation counts, so that a torn write of one leaves the other
    4096   records: digest (16 bytes), length (4), generation (8), payload; one after the other

A record is there when its digest is right and its generation is the header's: the first one that is not is the end.
So half a record is none, and a new generation empties the file in one write. Integers are little-endian; digests are
BLAKE2b over what follows them (in a header: over what comes before).
"""

import contextlib
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

_MAGIC: Final = b"TWSPILL1"
_HEADER: Final = struct.Struct("<8sQ")
_HEADERS: Final = (0, 2048)
_BEGIN: Final = 4096
_DIGEST_BYTES: Final = 16
_RECORD: Final = struct.Struct("<IQ")
_RECORD_BYTES: Final = _DIGEST_BYTES + _RECORD.size
_BLOCK_BYTES: Final = 1 << 20


class SpillFile:
    """One such file, held by one process at a time. Raises OSError."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._generation = self._newest()
        self._broken = False
        self.begin = self.end = _BEGIN
        for _, end in self.after(_BEGIN):
            self.end = end

    @classmethod
    def open(cls, path: Path, size_bytes: int) -> Self | None:
        """Make the file, or take the one that is there; None when another process has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        try:
            _take_space(descriptor, max(size_bytes, _BEGIN))
            _sync_folder(path.parent)
            return cls(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def size(self) -> int:
        """How long the file is."""
        return self._size

    @property
    def used_bytes(self) -> int:
        """What the records take."""
        return self.end - _BEGIN

    def append(self, payload: bytes) -> bool:
        """Write a record; it is on the disk when this returns True. False: no room, or the disk refused."""
        if self._broken or self.end + _RECORD_BYTES + len(payload) > self._size:
            return False
        body = _RECORD.pack(len(payload), self._generation) + payload
        record = _digest(body) + body
        try:
            _write(self._descriptor, record, self.end)
            os.fdatasync(self._descriptor)
        except OSError:
            # What a failed sync has written is not known, nor would the next one say: never again to this file.
            self._broken = True
            return False
        self.end += len(record)
        return True

    def after(self, offset: int) -> Iterator[tuple[bytes, int]]:
        """The records from an offset on, each with the offset behind it."""
        while (found := self._at(offset)) is not None:
            offset += _RECORD_BYTES + len(found)
            yield found, offset

    def clear(self) -> None:
        """Forget every record, at once and for good."""
        generation = self._generation + 1
        self._write_header(generation)
        self._generation = generation
        self.end = _BEGIN

    def fileno(self) -> int:
        """The open file."""
        return self._descriptor

    def close(self) -> None:
        """Give the file back; its records stay."""
        os.close(self._descriptor)

    def _newest(self) -> int:
        """The generation that counts; a file without one begins with 1."""
        found = [generation for slot in _HEADERS if (generation := self._header(slot)) is not None]
        if not found:
            self._write_header(1)
        return max(found, default=1)

    def _header(self, slot: int) -> int | None:
        head = os.pread(self._descriptor, _HEADER.size + _DIGEST_BYTES, slot)
        content, digest = head[: _HEADER.size], head[_HEADER.size :]
        if len(content) < _HEADER.size or _digest(content) != digest:
            return None
        magic, generation = _HEADER.unpack(content)
        return generation if magic == _MAGIC else None

    def _write_header(self, generation: int) -> None:
        content = _HEADER.pack(_MAGIC, generation)
        _write(self._descriptor, content + _digest(content), _HEADERS[generation % 2])
        os.fdatasync(self._descriptor)

    def _at(self, offset: int) -> bytes | None:
        head = os.pread(self._descriptor, _RECORD_BYTES, offset)
        if len(head) < _RECORD_BYTES:
            return None
        length, generation = _RECORD.unpack_from(head, _DIGEST_BYTES)
        if generation != self._generation or offset + _RECORD_BYTES + length > self._size:
            return None
        payload = os.pread(self._descriptor, length, offset + _RECORD_BYTES)
        return payload if _digest(head[_DIGEST_BYTES:] + payload) == head[:_DIGEST_BYTES] else None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _write(descriptor: int, content: bytes, offset: int) -> None:
    # One call may write less than it is asked to when the disk is full; the next one then raises.
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _take_space(descriptor: int, size_bytes: int) -> None:
    """Have the disk's space for the whole file. Zeros are written: some file systems promise and do not keep."""
    size = os.fstat(descriptor).st_size
    if size >= size_bytes:
        return
    with contextlib.suppress(OSError):
        os.posix_fallocate(descriptor, size, size_bytes - size)
    zeros = bytes(min(_BLOCK_BYTES, size_bytes - size))
    for offset in range(size, size_bytes, len(zeros)):
        _write(descriptor, zeros[: size_bytes - offset], offset)
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
