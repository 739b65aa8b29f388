"""The bytes of an artifact as one unbroken stream: it goes on where a lost connection broke it."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import grpc

from toolwright.v1 import tool_execution_pb2
from toolwright_client import wire
from toolwright_client.calls import Caller
from toolwright_client.deadline import Budget
from toolwright_client.errors import DeadlineExceeded, ToolwrightError
from toolwright_client.model import Artifact, Failure
from toolwright_client.retries import Tries
from toolwright_client.statuses import error_of

DAMAGED = "ARTIFACT_DAMAGED"


class ArtifactReader(AsyncIterator[bytes]):
    """Iterate it for the bytes, in pages of at most 256 KiB. Leave it early with `aclose` or `async with`."""

    def __init__(self, caller: Caller, budget: Budget, artifact_id: str, offset: int, limit: int | None) -> None:
        self.artifact: Artifact | None = None
        """The description; absent until the first page."""
        self.offset = offset
        """Of the next byte."""
        self._caller = caller
        self._budget = budget
        self._artifact_id = artifact_id
        self._left = limit
        self._tries = Tries(caller.policy)
        self._pages = self._unbroken()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pages)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Read no more."""
        await self._pages.aclose()

    async def _unbroken(self) -> AsyncGenerator[bytes, None]:
        while self._left != 0:
            try:
                async with aclosing(self._messages()) as messages:
                    async for message in messages:
                        if message.HasField("artifact"):
                            self.artifact = wire.artifact(message.artifact)
                        self._tries = Tries(self._caller.policy)
                        size = len(message.data)
                        self.offset += size
                        if self._left is not None:
                            self._left -= size
                        if size:
                            yield message.data
            except ToolwrightError as error:
                if not await self._resumes(error):
                    raise
            else:
                return

    def _messages(self) -> AsyncGenerator[tool_execution_pb2.ReadArtifactResponse, None]:
        request = tool_execution_pb2.ReadArtifactRequest(
            artifact_id=self._artifact_id, offset=self.offset, limit=self._left or 0
        )
        return self._caller.stream(self._caller.connection.open().executions.ReadArtifact, request, self._budget)

    async def _resumes(self, error: ToolwrightError) -> bool:
        if isinstance(error, DeadlineExceeded) and self._budget.unlimited:
            return True
        return await self._caller.pause(self._tries.delay(error), self._budget)


async def save(reader: ArtifactReader, path: Path) -> Artifact:
    """Write all of it to `path`, which appears, or is replaced, only when every byte is on the disk and is right."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    digest = hashlib.sha256()
    try:
        file = await _begun(part)
        try:
            async with reader:
                async for page in reader:
                    await asyncio.to_thread(_append, file, page, digest.update)
            artifact = _right(reader.artifact, digest.hexdigest(), path)
            await asyncio.to_thread(_sync, file)
        finally:
            # Not in a thread, where it would not be done for who is cancelled.
            file.close()
        await asyncio.to_thread(_place, part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise
    return artifact


async def _begun(part: Path) -> IO[bytes]:
    def discard(opening: "asyncio.Future[IO[bytes]]") -> None:
        if not opening.cancelled() and opening.exception() is None:
            opening.result().close()
            part.unlink(missing_ok=True)

    opening = asyncio.get_running_loop().run_in_executor(None, _open, part)
    try:
        return await asyncio.shield(opening)
    except BaseException:
        # A thread cannot be kept from opening it, and nobody waits for it any more.
        opening.add_done_callback(discard)
        raise


def _open(part: Path) -> IO[bytes]:
    return part.open("xb")


def _append(file: IO[bytes], page: bytes, count: Callable[[bytes], None]) -> None:
    count(page)
    file.write(page)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _place(part: Path, path: Path) -> None:
    """Also that it has this name is on the disk then, where folders can be synced: not on Windows."""
    part.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _right(artifact: Artifact | None, sha256: str, path: Path) -> Artifact:
    if artifact is not None and artifact.sha256 == sha256:
        return artifact
    message = f"what was read is not what was written (SHA-256 differs): {path} was not saved"
    raise error_of(Failure(code=grpc.StatusCode.DATA_LOSS, reason=DAMAGED, message=message))
