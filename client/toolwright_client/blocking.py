"""The blocking client: the async one, run on a background loop. It has no behaviour of its own."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import grpc

from toolwright_client.aio import AsyncClient
from toolwright_client.artifacts import ArtifactReader
from toolwright_client.background import background
from toolwright_client.connection import Tls
from toolwright_client.events import Event
from toolwright_client.handles import ExecutionHandle
from toolwright_client.model import Artifact, Execution, Tool, Validation
from toolwright_client.options import Arguments, Call, CallOptions
from toolwright_client.proof import Token, proof_of
from toolwright_client.result import Result
from toolwright_client.retries import RetryPolicy
from toolwright_client.streams import EventStream


class BlockingStream(Iterator[Event]):
    """The events of one execution; see EventStream."""

    def __init__(self, open_stream: Callable[[], EventStream]) -> None:
        async def opened() -> EventStream:
            return open_stream()

        self._stream = background().run(opened())

    @property
    def execution_id(self) -> str:
        return self._stream.execution_id

    @property
    def finished(self) -> Execution | None:
        return self._stream.finished

    def __next__(self) -> Event:
        async def following() -> Event | None:
            return await anext(self._stream, None)

        event = background().run(following())
        if event is None:
            raise StopIteration
        return event

    def result(self, *, raise_on_failure: bool = True) -> Result:
        return background().run(self._stream.result(raise_on_failure=raise_on_failure))

    def close(self) -> None:
        background().run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockingArtifact(Iterator[bytes]):
    """The bytes of an artifact; see ArtifactReader."""

    def __init__(self, open_reader: Callable[[], ArtifactReader]) -> None:
        async def opened() -> ArtifactReader:
            return open_reader()

        self._reader = background().run(opened())

    @property
    def artifact(self) -> Artifact | None:
        return self._reader.artifact

    def __next__(self) -> bytes:
        async def following() -> bytes | None:
            return await anext(self._reader, None)

        page = background().run(following())
        if page is None:
            raise StopIteration
        return page

    def close(self) -> None:
        background().run(self._reader.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockingHandle:
    """A hold on an execution; see ExecutionHandle."""

    def __init__(self, handle: ExecutionHandle) -> None:
        self.execution_id = handle.execution_id
        self._handle = handle

    def result(self, *, timeout: float | None = None, raise_on_failure: bool = True) -> Result:
        return background().run(self._handle.result(timeout=timeout, raise_on_failure=raise_on_failure))

    def describe(self) -> Execution:
        return background().run(self._handle.describe())

    def events(self, *, after_sequence: int = 0, timeout: float | None = None) -> BlockingStream:
        return BlockingStream(lambda: self._handle.events(after_sequence=after_sequence, timeout=timeout))

    def cancel(self) -> Execution:
        return background().run(self._handle.cancel())


class Client:
    """Calls the tools of one server and waits. Takes and answers what AsyncClient does; may be shared by threads.

    Made before a fork, it connects anew in each process that uses it. A fork after its first use cannot use any: gRPC
    would hang there, so a RuntimeError says it instead.
    """

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        token: Token | None = None,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
        timeout: float = 60.0,
        metadata: Mapping[str, str] | None = None,
        retries: RetryPolicy | None = None,
        channel_options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        # Made later; what cannot be meant is refused now.
        proof_of(target, api_key, token, encrypted=bool(tls or credentials), insecure=insecure)
        self.target = target
        self._make = lambda: AsyncClient(
            target,
            api_key=api_key,
            token=token,
            tls=tls,
            credentials=credentials,
            insecure=insecure,
            timeout=timeout,
            metadata=metadata,
            retries=retries,
            channel_options=channel_options,
        )
        # By process id, and never dropped: closing the parent's channel in a fork would hang.
        self._made: dict[int, AsyncClient] = {}
        self._lock = threading.Lock()

    @property
    def _client(self) -> AsyncClient:
        background()
        with self._lock:
            return self._made.setdefault(os.getpid(), self._make())

    def execute(
        self,
        tool: str,
        arguments: Arguments | None = None,
        *,
        raise_on_failure: bool = True,
        **options: Unpack[CallOptions],
    ) -> Result:
        work = self._client.execute(tool, arguments, raise_on_failure=raise_on_failure, **options)
        return background().run(work)

    def batch(
        self,
        calls: Iterable[Call],
        *,
        max_parallel: int = 0,
        stop_on_failure: bool = False,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[Result, ...]:
        work = self._client.batch(
            calls, max_parallel=max_parallel, stop_on_failure=stop_on_failure, timeout=timeout, metadata=metadata
        )
        return background().run(work)

    def stream(self, tool: str, arguments: Arguments | None = None, **options: Unpack[CallOptions]) -> BlockingStream:
        return BlockingStream(lambda: self._client.stream(tool, arguments, **options))

    def start(self, tool: str, arguments: Arguments | None = None, **options: Unpack[CallOptions]) -> BlockingHandle:
        return BlockingHandle(background().run(self._client.start(tool, arguments, **options)))

    def handle(self, execution_id: str) -> BlockingHandle:
        return BlockingHandle(self._client.handle(execution_id))

    def follow(self, execution_id: str, *, after_sequence: int = 0, timeout: float | None = None) -> BlockingStream:
        return BlockingStream(lambda: self._client.follow(execution_id, after_sequence=after_sequence, timeout=timeout))

    def wait(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        return background().run(self._client.wait(execution_id, timeout=timeout))

    def get(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        return background().run(self._client.get(execution_id, timeout=timeout))

    def find(self, request_id: str, *, timeout: float | None = None) -> Execution:
        return background().run(self._client.find(request_id, timeout=timeout))

    def list(self, where: str = "", *, limit: int = 100, timeout: float | None = None) -> tuple[Execution, ...]:
        return background().run(self._client.list(where, limit=limit, timeout=timeout))

    def cancel(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        return background().run(self._client.cancel(execution_id, timeout=timeout))

    def read_artifact(
        self, artifact: Artifact | str, *, offset: int = 0, limit: int | None = None, timeout: float | None = None
    ) -> BlockingArtifact:
        return BlockingArtifact(
            lambda: self._client.read_artifact(artifact, offset=offset, limit=limit, timeout=timeout)
        )

    def save_artifact(self, artifact: Artifact | str, path: str | Path, *, timeout: float | None = None) -> Artifact:
        return background().run(self._client.save_artifact(artifact, path, timeout=timeout))

    def tools(self, where: str = "", *, timeout: float | None = None) -> tuple[Tool, ...]:
        return background().run(self._client.tools(where, timeout=timeout))

    def tool(self, name: str, *, version: str = "", timeout: float | None = None) -> Tool:
        return background().run(self._client.tool(name, version=version, timeout=timeout))

    def validate(
        self, tool: str, arguments: Arguments | None = None, *, version: str = "", timeout: float | None = None
    ) -> Validation:
        return background().run(self._client.validate(tool, arguments, version=version, timeout=timeout))

    def close(self) -> None:
        """Ends what is in flight and closes the connection."""
        if made := self._made.get(os.getpid()):
            background().run(made.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
