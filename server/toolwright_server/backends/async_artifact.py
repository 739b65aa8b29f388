"""The artifact of an async tool: written in a thread, in pieces of some size, so that the event loop never waits."""

import asyncio
from collections.abc import Callable
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
        await self._step(self._file.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._step(self._end)
        elif isinstance(error, GeneratorExit):
            # A tool that is thrown away unfinished cannot wait for anything any more.
            self._file.abort()
        else:
            await self._abort()

    async def write(self, chunk: str | bytes | bytearray | memoryview) -> int:
        """Append bytes, or text as UTF-8; how many bytes that was. Raises ArtifactRefused."""
        data = memoryview(chunk.encode() if isinstance(chunk, str) else chunk).cast("B")
        self._pending += data
        if len(self._pending) >= PIECE_BYTES:
            pending, self._pending = self._pending, bytearray()
            await self._step(self._file.write, pending)
        return len(data)

    async def _step(self, step: Callable[..., object], *arguments: bytearray) -> None:
        try:
            await asyncio.to_thread(step, *arguments)
        except asyncio.CancelledError:
            # It may have been done, half done or not begun, or be done after this: no file is right after that.
            await self._abort()
            raise
        except GeneratorExit:
            self._file.abort()
            raise

    async def _abort(self) -> None:
        # Also when whoever waits for it is cancelled, once more: nobody else would ever close the file.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._file.abort))

    def _end(self) -> None:
        try:
            self._file.write(self._pending)
        except BaseException:
            self._file.abort()
            raise
        self._file.close()
