"""Reads artifacts: who may, where the bytes are, page by page."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from toolwright_server.artifacts.model import Artifact, artifact_id, parsed_id
from toolwright_server.artifacts.store import ArtifactStore, BytesMissing
from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.store import ExecutionStore
from toolwright_server.identity import Caller

PAGE_BYTES: Final = 256 * 1024
_RETRY_SECONDS: Final = 1.0


class Library:
    """`server_id` is this server's: bytes that do not lie here may lie where the execution ran, if there still is such
    a server, which `is_held` says of its lease.
    """

    def __init__(
        self,
        executions: ExecutionStore,
        store: ArtifactStore,
        server_id: str,
        is_held: Callable[[str], Awaitable[bool]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._executions = executions
        self._store = store
        self._server_id = server_id
        self._is_held = is_held
        self._clock = clock

    async def find(self, caller: Caller, asked: str) -> tuple[Execution, Artifact]:
        """An artifact of an execution that the caller may see. Raises RESOURCE_NOT_FOUND."""
        named = parsed_id(asked)
        execution = await self._executions.get(caller, named[0]) if named is not None else None
        if named is not None and execution is not None and execution.state is State.SUCCEEDED:
            for artifact in execution.artifacts:
                if artifact.number == named[1] and not self._is_expired(artifact):
                    return execution, artifact
        raise _unknown(asked)

    async def pages(self, execution: Execution, artifact: Artifact, offset: int, limit: int) -> AsyncGenerator[bytes]:
        """Its bytes from `offset`, at most `limit` (0: all), in pages.

        Raises INVALID_ARGUMENTS, ARTIFACT_ELSEWHERE, RESOURCE_NOT_FOUND or STORE_UNAVAILABLE.
        """
        if not 0 <= offset <= artifact.size_bytes:
            raise invalid("offset", f"must be 0 to {artifact.size_bytes}, the size of the artifact")
        if limit < 0:
            raise invalid("limit", "must not be negative")
        end = artifact.size_bytes if not limit else min(artifact.size_bytes, offset + limit)
        try:
            async with self._store.reading(execution.execution_id, artifact.number) as reading:
                while offset < end:
                    page = await reading.read(offset, min(PAGE_BYTES, end - offset))
                    if not page:
                        raise ToolwrightError(Reason.INTERNAL, "the artifact has fewer bytes than it was written with")
                    yield page
                    offset += len(page)
        except BytesMissing:
            raise await self._missing(execution, artifact) from None

    def _is_expired(self, artifact: Artifact) -> bool:
        return artifact.expire_time is not None and artifact.expire_time <= self._clock()

    async def _missing(self, execution: Execution, artifact: Artifact) -> ToolwrightError:
        name = artifact_id(execution.execution_id, artifact.number)
        if execution.server_id == self._server_id or not await self._is_held(execution.server_id):
            return _unknown(name)
        return ToolwrightError(
            Reason.ARTIFACT_ELSEWHERE,
            f"the bytes of {name} are not here: they were written by the server {execution.server_id}",
            metadata={"server_id": execution.server_id},
            retry_delay=_RETRY_SECONDS,
        )


def _unknown(asked: str) -> ToolwrightError:
    return ToolwrightError(Reason.RESOURCE_NOT_FOUND, f"there is no artifact {asked[:128]!r}, or not any more")
