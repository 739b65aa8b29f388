"""A real RpcServer on loopback whose services do what a test tells them, and the statuses that its clients see."""
# ruff: noqa: N802 - gRPC names the methods

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from toolwright.v1 import tool_execution_pb2 as pb
from toolwright.v1 import tool_execution_pb2_grpc
from toolwright_server.rpc.call import Metadata, RpcCall
from toolwright_server.rpc.observe import trace_context
from toolwright_server.rpc.server import RpcOptions, RpcServer
from toolwright_server.telemetry.tracing import CallTrace

SERVICE = pb.DESCRIPTOR.services_by_name["ToolExecution"]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SECONDS = 10.0
"""Longer than anything here takes; a bound, never a measure."""


@dataclass
class Watching:
    """An observer that keeps what it saw. `ended` wakes whenever a call is over."""

    methods: list[str] = field(default_factory=list[str])
    begun: list[tuple[str, tuple[str | None, str | None]]] = field(default_factory=list[Any])
    calls: list[RpcCall] = field(default_factory=list[RpcCall])
    ended: asyncio.Condition = field(default_factory=asyncio.Condition)
    telling: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])

    def declare(self, methods: Iterable[str]) -> None:
        self.methods.extend(methods)

    def begin(self, method: str, metadata: Metadata) -> CallTrace:
        self.begun.append((method, trace_context(metadata)))
        return CallTrace(TRACE_ID, "b7ad6b7169203331", 0, None, None)

    def end(self, call: RpcCall) -> None:
        self.calls.append(call)
        self.telling.append(asyncio.ensure_future(self._tell()))

    async def _tell(self) -> None:
        async with self.ended:
            self.ended.notify_all()

    async def outcomes(self, count: int) -> list[tuple[str, str]]:
        """`(code, reason)` of the calls that are over, once there are `count`."""
        async with self.ended:
            await asyncio.wait_for(self.ended.wait_for(lambda: len(self.calls) >= count), SECONDS)
        return [(call.code, call.reason) for call in self.calls]


class Playing:
    """Serves ToolExecution: each rpc does what `play` holds under its name."""

    def __init__(self, **play: Callable[..., Awaitable[Any]]) -> None:
        self.play = play

    async def Execute(self, request: Any, call: RpcCall) -> Any:
        return await self.play["Execute"](request, call)

    async def BatchExecute(self, request: Any, call: RpcCall) -> Any:
        return await self.play["BatchExecute"](request, call)

    async def GetExecution(self, request: Any, call: RpcCall) -> Any:
        return await self.play["GetExecution"](request, call)

    async def ListExecutions(self, request: Any, call: RpcCall) -> Any:
        return await self.play["ListExecutions"](request, call)

    async def CancelExecution(self, request: Any, call: RpcCall) -> Any:
        return await self.play["CancelExecution"](request, call)

    async def ReconcileExecution(self, request: Any, call: RpcCall) -> Any:
        return await self.play["ReconcileExecution"](request, call)

    async def ExecuteStream(self, request: Any, call: RpcCall, write: Any) -> None:
        await self.play["ExecuteStream"](request, call, write)

    async def WaitExecution(self, request: Any, call: RpcCall, write: Any) -> None:
        await self.play["WaitExecution"](request, call, write)

    async def ReadArtifact(self, request: Any, call: RpcCall, write: Any) -> None:
        await self.play["ReadArtifact"](request, call, write)


@dataclass
class Serving:
    """A running server, a channel to it, and what its observer saw."""

    server: RpcServer
    address: str
    channel: grpc.aio.Channel
    seen: Watching

    @property
    def stub(self) -> Any:
        return tool_execution_pb2_grpc.ToolExecutionStub(self.channel)

    def raw(self, method: str) -> Any:
        """A unary call of ToolExecution that sends and receives bytes as they are."""
        unary: Any = self.channel.unary_unary
        return unary(f"/{SERVICE.full_name}/{method}")

    def raw_stream(self, method: str) -> Any:
        """A call of ToolExecution that sends bytes and receives a stream of bytes."""
        stream: Any = self.channel.unary_stream
        return stream(f"/{SERVICE.full_name}/{method}")


@asynccontextmanager
async def serving(play: Playing, **options: Any) -> AsyncGenerator[Serving]:
    """A server on a free port; WaitExecution only watches."""
    seen = Watching()
    options.setdefault("listen", "127.0.0.1:0")
    server = RpcServer(RpcOptions(**options), seen)
    server.add(SERVICE, play, ends_at_drain={"WaitExecution"})
    address = await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Serving(server, address, channel, seen)
    finally:
        await server.stop(0)


async def refused(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The status of a call that must fail."""
    try:
        answer = await asyncio.wait_for(call, SECONDS)
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"the call was answered: {answer!r}")


async def read_all(call: Any) -> list[Any]:
    """Every message of a stream."""
    return [message async for message in call]


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(tuple(error.trailing_metadata() or ()))


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The google.rpc details by name, having checked that they belong to the status."""
    packed = trailers(error)["grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    status = status_pb2.Status.FromString(packed)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found: dict[str, Any] = {}
    for detail in status.details:
        kind = getattr(error_details_pb2, detail.type_url.rpartition(".")[2])
        found[kind.__name__] = kind.FromString(detail.value)
    return found


async def hang(*_: Any) -> Any:
    """Serves until it is stopped."""
    await asyncio.Event().wait()


class Hold:
    """A play that says when calls have come in, and answers `answer` to all of them once it is let go."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.go = asyncio.Event()
        self._arrivals: asyncio.Queue[RpcCall] = asyncio.Queue()

    async def __call__(self, request: Any, call: RpcCall, write: Any = None) -> Any:
        self._arrivals.put_nowait(call)
        await self.go.wait()
        if write is None:
            return self.answer
        await write(self.answer)
        return None

    async def arrived(self, count: int) -> list[RpcCall]:
        """The next `count` calls, once they are there."""
        return [await asyncio.wait_for(self._arrivals.get(), SECONDS) for _ in range(count)]
