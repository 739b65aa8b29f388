"""The artifact of an async tool: written in a thread, in pieces of some size, so that the event loop never waits."""

import asyncio
from types import TracebackType
from typing import Final, Self

from toolwright_server.artifacts.writing import ArtifactFile

# A hop to a thread costs as much as writing so many bytes.
PIECE_BYTES: Final = 256 * 1024


class AsyncArtifact:
    """See ArtifactFile, whose methods it has, awaited."""

    def __init__(self, file: ArtifactFile) -> None:
        self._file = file
        self._pending = bytearray()

    @property
    def size_bytes(self) -> int:
        """What was written so far."""
        return self._file.size_bytes + len(self._pending)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._file.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await asyncio.to_thread(self._end)
        else:
            await asyncio.to_thread(self._file.abort)

    async def write(self, chunk: str | bytes | bytearray | memoryview) -> int:
        """Append bytes, or text as UTF-8; how many bytes that was. Raises ArtifactRefused."""
        data = memoryview(chunk.encode() if isinstance(chunk, str) else chunk).cast("B")
        self._pending += data
        if len(self._pending) >= PIECE_BYTES:
            pending, self._pending = self._pending, bytearray()
            await asyncio.to_thread(self._file.write, pending)
        return len(data)

    def _end(self) -> None:
        try:
            self._file.write(self._pending)
        except BaseException:
            self._file.abort()
            raise
        self._file.close()
