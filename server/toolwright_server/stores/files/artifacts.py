"""The bytes of artifacts, one file each in one folder. Named by ids, never by what a tool calls them."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from toolwright_server.artifacts.model import artifact_id, parsed_id
from toolwright_server.artifacts.store import BytesMissing, Lying
from toolwright_server.artifacts.writing import PART
from toolwright_server.errors import SettingsError

_MODE: Final = 0o700


class FileArtifacts:
    """An ArtifactStore. `folder` may be shared by several servers; it is made if need be."""

    def __init__(self, folder: Path) -> None:
        # Worker processes have a working directory of their own.
        self._folder = folder.absolute()

    @classmethod
    def open(cls, folder: Path) -> "FileArtifacts":
        """Raises SettingsError."""
        try:
            folder.mkdir(mode=_MODE, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise SettingsError(f"artifacts cannot be written to {folder} (artifact_dir)")
        except OSError as error:
            raise SettingsError(f"artifacts cannot be kept in {folder} (artifact_dir): {error.strerror}") from error
        return cls(folder)

    def path(self, execution_id: str, number: int) -> str:
        return str(self._folder / f"{artifact_id(execution_id, number)}{PART}")

    @asynccontextmanager
    async def reading(self, execution_id: str, number: int) -> AsyncGenerator["_File"]:
        opening = asyncio.get_running_loop().run_in_executor(None, self._open, execution_id, number)
        try:
            descriptor = await asyncio.shield(opening)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BytesMissing from error
        except BaseException:
            # Nobody is told the descriptor any more, and a thread cannot be kept from opening it.
            opening.add_done_callback(_close)
            raise
        try:
            yield _File(descriptor)
        finally:
            os.close(descriptor)

    async def lying(self) -> Sequence[Lying]:
        return await asyncio.to_thread(self._scanned)

    async def erase(self, which: Mapping[str, Sequence[int]]) -> None:
        await asyncio.to_thread(self._erase, which)

    def _open(self, execution_id: str, number: int) -> int:
        return os.open(self._folder / artifact_id(execution_id, number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _scanned(self) -> list[Lying]:
        found: list[Lying] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                is_whole = not entry.name.endswith(PART)
                named = parsed_id(entry.name.removesuffix(PART))
                if named is None:
                    continue  # not ours
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append(Lying(*named, is_whole, status.st_size, status.st_mtime))
        return found

    def _erase(self, which: Mapping[str, Sequence[int]]) -> None:
        for execution_id, numbers in which.items():
            for number in numbers:
                name = artifact_id(execution_id, number)
                # In this order: what is given its name meanwhile is found under that, or has no file to give it to.
                for path in (self._folder / f"{name}{PART}", self._folder / name):
                    with suppress(FileNotFoundError):
                        path.unlink()


def _close(opening: "asyncio.Future[int]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


class _File:
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def read(self, offset: int, size: int) -> bytes:
        return await asyncio.to_thread(os.pread, self._descriptor, size, offset)
