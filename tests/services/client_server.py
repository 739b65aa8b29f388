"""A tiny invented server on real gRPC that answers as it is told. It runs no tools and keeps what it was sent."""
# ruff: noqa: N802 - gRPC names the methods

import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from toolwright.v1 import (
    common_pb2,
    tool_catalog_pb2,
    tool_catalog_pb2_grpc,
    tool_execution_pb2,
    tool_execution_pb2_grpc,
)

Context = Any
Answer = Callable[[Any, Context], Awaitable[Any]]
Pages = Callable[[Any, Context], AsyncIterator[tool_execution_pb2.ReadArtifactResponse]]
Script = Callable[[Any, Context], AsyncIterator[common_pb2.ExecutionEvent]]


@dataclass(slots=True)
class Seen:
    """One rpc as it arrived."""

    rpc: str
    request: Any
    metadata: dict[str, str]
    remaining: float | None
    at: float


def execution(
    execution_id: str = "e-1", state: int = common_pb2.STATE_SUCCEEDED, **fields: Any
) -> common_pb2.Execution:
    """An execution, by default one that succeeded with the value 42."""
    made = common_pb2.Execution(execution_id=execution_id, state=state, tool="t", **fields)  # type: ignore[arg-type]
    if state == common_pb2.STATE_SUCCEEDED:
        made.result.value_json = "42"
    return made


def event(sequence: int, execution_id: str = "e-1", **what: Any) -> common_pb2.ExecutionEvent:
    return common_pb2.ExecutionEvent(execution_id=execution_id, sequence=sequence, **what)


def snapshot(sequence: int = 0, execution_id: str = "e-1") -> common_pb2.ExecutionEvent:
    running = execution(execution_id, common_pb2.STATE_RUNNING)
    return event(sequence, execution_id, snapshot=running)


def progress(sequence: int) -> common_pb2.ExecutionEvent:
    return event(sequence, progress=common_pb2.Progress(progress=sequence))


def finished(sequence: int, ended: common_pb2.Execution | None = None) -> common_pb2.ExecutionEvent:
    return event(sequence, finished=ended or execution())


async def succeeds(request: Any, context: Context) -> AsyncIterator[common_pb2.ExecutionEvent]:
    """The stream of an execution that makes one step and succeeds with 42."""
    for each in (snapshot(), progress(1), finished(2)):
        yield each


async def refuse(
    context: Context,
    code: grpc.StatusCode,
    reason: str,
    *,
    retry_after: float | None = None,
    pushback_ms: int | None = None,
    details: tuple[Message, ...] = (),
    message: str = "refused",
    **metadata: str,
) -> None:
    """Ends the rpc with a status that carries details as a Toolwright server's does."""
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(domain="toolwright.v1", reason=reason, metadata=metadata)
    parts: list[Message] = [info, *details]
    if retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(retry_after * 1000))
        parts.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for part in parts:
        status.details.add().Pack(part)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(pushback_ms)))
    await context.abort(code, message, tuple(trailers))


@dataclass(slots=True)
class Scripted:
    """What the server shall answer, each used once, and what it saw. Without a script all succeeds with 42."""

    execute: deque[Answer] = field(default_factory=deque[Answer])
    batch: deque[Answer] = field(default_factory=deque[Answer])
    stream: deque[Script] = field(default_factory=deque[Script])
    wait: deque[Script] = field(default_factory=deque[Script])
    pages: deque[Pages] = field(default_factory=deque[Pages])
    get: deque[Answer] = field(default_factory=deque[Answer])
    effects: dict[str, int] = field(default_factory=dict[str, int])
    seen: list[Seen] = field(default_factory=list[Seen])

    def of(self, rpc: str) -> list[Seen]:
        return [each for each in self.seen if each.rpc == rpc]

    def note(self, rpc: str, request: Any, context: Context) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        self.seen.append(Seen(rpc, request, metadata, context.time_remaining(), time.monotonic()))


class Executions(tool_execution_pb2_grpc.ToolExecutionServicer):
    def __init__(self, script: Scripted) -> None:
        self.script = script

    async def Execute(self, request: Any, context: Context) -> Any:
        self.script.note("Execute", request, context)
        if self.script.execute:
            return await self.script.execute.popleft()(request, context)
        return tool_execution_pb2.ExecuteResponse(execution=execution(request_id=request.call.request_id))

    async def BatchExecute(self, request: Any, context: Context) -> Any:
        self.script.note("BatchExecute", request, context)
        if self.script.batch:
            return await self.script.batch.popleft()(request, context)
        made = [execution(f"e-{call.request_id}", request_id=call.request_id) for call in request.calls]
        return tool_execution_pb2.BatchExecuteResponse(executions=made)

    async def ExecuteStream(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self.script.note("ExecuteStream", request, context)
        play = self.script.stream.popleft() if self.script.stream else succeeds
        async for each in play(request, context):
            yield tool_execution_pb2.ExecuteStreamResponse(event=each)

    async def WaitExecution(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self.script.note("WaitExecution", request, context)
        play = self.script.wait.popleft() if self.script.wait else succeeds
        async for each in play(request, context):
            yield tool_execution_pb2.WaitExecutionResponse(event=each)

    async def ReadArtifact(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self.script.note("ReadArtifact", request, context)
        async for each in self.script.pages.popleft()(request, context):
            yield each

    async def GetExecution(self, request: Any, context: Context) -> Any:
        self.script.note("GetExecution", request, context)
        if self.script.get:
            return await self.script.get.popleft()(request, context)
        return await refuse(context, grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")

    async def ListExecutions(self, request: Any, context: Context) -> Any:
        self.script.note("ListExecutions", request, context)
        start = int(request.page_token or 0)
        ids = [f"e-{number}" for number in range(start, min(start + request.page_size, 5))]
        token = str(start + len(ids)) if start + len(ids) < 5 else ""
        listed = [execution(each, common_pb2.STATE_FAILED) for each in ids]
        return tool_execution_pb2.ListExecutionsResponse(executions=listed, next_page_token=token)

    async def CancelExecution(self, request: Any, context: Context) -> Any:
        self.script.note("CancelExecution", request, context)
        stopped = execution(request.execution_id, common_pb2.STATE_CANCELLED)
        return tool_execution_pb2.CancelExecutionResponse(execution=stopped)

    async def ReconcileExecution(self, request: Any, context: Context) -> Any:
        self.script.note("ReconcileExecution", request, context)
        return await refuse(context, grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


class Catalog(tool_catalog_pb2_grpc.ToolCatalogServiceServicer):
    def __init__(self, script: Scripted) -> None:
        self.script = script

    def tool(self, name: str) -> tool_catalog_pb2.Tool:
        return tool_catalog_pb2.Tool(
            name=name,
            version="1",
            effect=self.script.effects[name],  # type: ignore[arg-type]
            input_schema_json='{"type": "object"}',
            timeout=Duration(seconds=5),
            enabled=True,
        )

    async def GetTool(self, request: Any, context: Context) -> Any:
        self.script.note("GetTool", request, context)
        if request.tool not in self.script.effects:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "TOOL_NOT_FOUND")
        return tool_catalog_pb2.GetToolResponse(tool=self.tool(request.tool))

    async def ListTools(self, request: Any, context: Context) -> Any:
        self.script.note("ListTools", request, context)
        names = sorted(self.script.effects)
        start = int(request.page_token or 0)
        token = str(start + 1) if start + 1 < len(names) else ""
        tools = [self.tool(name) for name in names[start : start + 1]]
        return tool_catalog_pb2.ListToolsResponse(tools=tools, next_page_token=token)

    async def ValidateArguments(self, request: Any, context: Context) -> Any:
        self.script.note("ValidateArguments", request, context)
        wrong = common_pb2.FieldViolation(field="tags[2]", description="must be text")
        return tool_catalog_pb2.ValidateArgumentsResponse(valid=False, violations=[wrong])


async def started(script: Scripted, address: str = "127.0.0.1:0") -> tuple[grpc.aio.Server, str]:
    """A running server and its address."""
    options = (
        ("grpc.so_reuseport", 0),
        ("grpc.max_send_message_length", 64 * 1024 * 1024),
        ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    )
    server = grpc.aio.server(options=options)
    tool_execution_pb2_grpc.add_ToolExecutionServicer_to_server(Executions(script), server)
    tool_catalog_pb2_grpc.add_ToolCatalogServiceServicer_to_server(Catalog(script), server)  # pyright: ignore[reportAbstractUsage]
    port = server.add_insecure_port(address)
    await server.start()
    return server, f"127.0.0.1:{port}"


@asynccontextmanager
async def serving(script: Scripted, address: str = "127.0.0.1:0") -> AsyncGenerator[str]:
    server, target = await started(script, address)
    try:
        yield target
    finally:
        await server.stop(0)


async def mortal(address: str, journal: Path, effect: int, die: bool) -> None:
    """A server in a process of its own whose tool writes a line and is killed before it can answer."""
    script = Scripted(effects={"t": effect})

    async def act(request: Any, context: Context) -> Any:
        with journal.open("a") as lines:
            lines.write(request.call.request_id + "\n")
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        return tool_execution_pb2.ExecuteResponse(execution=execution())

    script.execute.extend([act] * 100)
    server, target = await started(script, address)
    sys.stdout.write(target + "\n")
    sys.stdout.flush()
    await server.wait_for_termination(30)


if __name__ == "__main__":
    import asyncio

    asyncio.run(mortal(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "die"))
