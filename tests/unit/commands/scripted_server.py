"""A real gRPC server on loopback that answers the commands as it is told, and keeps what it was sent."""
# ruff: noqa: N802 - gRPC names the methods

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any, NoReturn

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
Events = Callable[[Context], Iterator[common_pb2.ExecutionEvent]]


def execution(state: int = common_pb2.STATE_SUCCEEDED, value_json: str = "42", **fields: Any) -> common_pb2.Execution:
    made = common_pb2.Execution(execution_id="e-1", state=state, tool="t", **fields)  # type: ignore[arg-type]
    if state == common_pb2.STATE_SUCCEEDED:
        made.result.value_json = value_json
        made.result.source = common_pb2.RESULT_SOURCE_TOOL
    return made


def event(sequence: int, **what: Any) -> common_pb2.ExecutionEvent:
    return common_pb2.ExecutionEvent(execution_id="e-1", sequence=sequence, **what)


def abort(context: Context, code: grpc.StatusCode, reason: str, *more: Message, **metadata: str) -> NoReturn:
    """End the rpc as the server does: with google.rpc details."""
    number = int(code.value[0])
    status = status_pb2.Status(code=number, message=f"developers read {reason}")
    facts = {"suggestedAction": f"Do what {reason} asks.", **metadata}
    details = [
        error_details_pb2.ErrorInfo(reason=reason, domain="toolwright.v1", metadata=facts),
        error_details_pb2.LocalizedMessage(locale="en", message=f"People read {reason}."),
        *more,
    ]
    for detail in details:
        status.details.add().Pack(detail)
    context.set_trailing_metadata(
        (("grpc-status-details-bin", status.SerializeToString()), ("toolwright-execution-id", "e-1"))
    )
    context.abort(code, status.message)
    raise AssertionError("abort raises")


def retry_after(seconds: int) -> Message:
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds))


class Scripted:
    """What the server answers, and what it was asked. Set the attributes before the command runs."""

    def __init__(self) -> None:
        self.address = ""
        self.calls: list[common_pb2.ToolCall] = []
        self.metadata: dict[str, str] = {}
        self.remaining: float | None = None
        self.answer: Callable[[Context], common_pb2.Execution] = lambda _: execution()
        self.batches: list[tool_execution_pb2.BatchExecuteRequest] = []
        self.answers: Callable[[Any, Context], list[common_pb2.Execution]] = lambda request, _: [
            execution(request_id=call.request_id) for call in request.calls
        ]
        self.events: Events = lambda _: iter(())
        self.attached: list[tool_execution_pb2.WaitExecutionRequest] = []
        self.rest: Events = lambda _: iter(())
        self.tools: list[tool_catalog_pb2.Tool] = []
        self.filters: list[str] = []
        # Newest first, as they are listed and got.
        self.history: list[common_pb2.Execution] = []
        self.listed: Callable[[], None] = lambda: None
        self.reconciled: list[tool_execution_pb2.ReconcileExecutionRequest] = []
        self.settles: Callable[[Any, Context], common_pb2.Execution] = lambda _, __: execution()
        # Set when a call has arrived, and when it was ended from the other side.
        self.arrived = threading.Event()
        self.cancelled = threading.Event()

    def hold(self, context: Context) -> common_pb2.Execution:
        """An answer that comes only when the caller has gone."""
        context.add_callback(self.cancelled.set)
        self.arrived.set()
        assert self.cancelled.wait(30)
        return execution()

    def took(self, call: common_pb2.ToolCall, context: Context) -> None:
        self.calls.append(call)
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.remaining = context.time_remaining()


class _Execution(tool_execution_pb2_grpc.ToolExecutionServicer):
    def __init__(self, script: Scripted) -> None:
        self.script = script

    def Execute(self, request: Any, context: Context) -> Any:
        self.script.took(request.call, context)
        return tool_execution_pb2.ExecuteResponse(execution=self.script.answer(context))

    def BatchExecute(self, request: Any, context: Context) -> Any:
        self.script.batches.append(request)
        self.script.took(request.calls[0], context)
        return tool_execution_pb2.BatchExecuteResponse(executions=self.script.answers(request, context))

    def ExecuteStream(self, request: Any, context: Context) -> Iterator[Any]:
        self.script.took(request.call, context)
        for each in self.script.events(context):
            yield tool_execution_pb2.ExecuteStreamResponse(event=each)

    def WaitExecution(self, request: Any, context: Context) -> Iterator[Any]:
        self.script.attached.append(request)
        for each in self.script.rest(context):
            yield tool_execution_pb2.WaitExecutionResponse(event=each)

    def GetExecution(self, request: Any, context: Context) -> Any:
        for each in self.script.history:
            if request.execution_id == each.execution_id or (
                request.request_id and request.request_id == each.request_id
            ):
                return tool_execution_pb2.GetExecutionResponse(execution=each)
        abort(context, grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")

    def ReconcileExecution(self, request: Any, context: Context) -> Any:
        self.script.reconciled.append(request)
        return tool_execution_pb2.ReconcileExecutionResponse(execution=self.script.settles(request, context))

    def ListExecutions(self, request: Any, context: Context) -> Any:
        """Pages of at most two, or of what was asked."""
        self.script.filters.append(request.filter)
        self.script.listed()
        start = int(request.page_token or 0)
        end = start + min(request.page_size, 2)
        more = str(end) if len(self.script.history) > end else ""
        return tool_execution_pb2.ListExecutionsResponse(
            executions=self.script.history[start:end], next_page_token=more
        )


class _Catalog(tool_catalog_pb2_grpc.ToolCatalogServiceServicer):
    """Pages of two tools."""

    def __init__(self, script: Scripted) -> None:
        self.script = script

    def ListTools(self, request: Any, context: Context) -> Any:
        self.script.filters.append(request.filter)
        start = int(request.page_token or 0)
        found = self.script.tools[start : start + 2]
        more = str(start + 2) if len(self.script.tools) > start + 2 else ""
        return tool_catalog_pb2.ListToolsResponse(tools=found, next_page_token=more)

    def GetTool(self, request: Any, context: Context) -> Any:
        for tool in self.script.tools:
            if tool.name == request.tool:
                return tool_catalog_pb2.GetToolResponse(tool=tool)
        abort(context, grpc.StatusCode.NOT_FOUND, "TOOL_NOT_FOUND")


@contextmanager
def serving(script: Scripted) -> Generator[grpc.Server]:
    """The server, on a free port that is in `script.address`."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    tool_execution_pb2_grpc.add_ToolExecutionServicer_to_server(_Execution(script), server)  # pyright: ignore[reportAbstractUsage]
    tool_catalog_pb2_grpc.add_ToolCatalogServiceServicer_to_server(_Catalog(script), server)  # pyright: ignore[reportAbstractUsage]
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield server
    finally:
        server.stop(None).wait(10)
