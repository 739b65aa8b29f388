"""The ToolExecution service: reads a request, asks the engine, writes the answer. Decides nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import IN_BAND, Reason, ToolwrightError, invalid
from toolwright_server.execution import attendance, texts, wire
from toolwright_server.execution.batching import wire as batches
from toolwright_server.execution.batching.batch import run
from toolwright_server.execution.elsewhere.distant import Distant
from toolwright_server.execution.elsewhere.stop_orders import StopOrders
from toolwright_server.execution.events import Event, EventLogs
from toolwright_server.execution.executor import Executor
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.library import Library
from toolwright_server.execution.model import Execution, Invocation, State
from toolwright_server.execution.query import FIELDS, TIMES, ExecutionQuery
from toolwright_server.execution.recovery.reconcile import Declared, Reconciler
from toolwright_server.execution.store import ExecutionStore
from toolwright_server.execution.streaming import wire as messages
from toolwright_server.execution.streaming.follow import follow
from toolwright_server.identity import ANONYMOUS, Role
from toolwright_server.limits.headline import headline
from toolwright_server.rpc import filters, lists
from toolwright_server.rpc.call import RpcCall

EXECUTION_ID_TRAILER = "toolwright-execution-id"
# As the IETF's draft "RateLimit header fields for HTTP" writes it: "rule";r=remaining;t=seconds.
RATE_LIMIT_TRAILER = "ratelimit"
PAGE_DEFAULT = 50
FILTER_FIELDS = {
    **dict.fromkeys(FIELDS, filters.TEXT),
    **dict.fromkeys(TIMES, filters.TIME),
    "state": filters.choice(State.__members__, "STATE_"),
}
NOTE_LIMIT = 1_024

# An answer in a stream of events.
Response = TypeVar("Response", pb.ExecuteStreamResponse, pb.WaitExecutionResponse)


class ToolExecutionService:
    """One method per rpc of toolwright.v1.ToolExecution; the proto says what each answers."""

    def __init__(
        self,
        executor: Executor,
        store: ExecutionStore,
        logs: EventLogs,
        arguments_limit: int,
        answer_limit: int,
        *,
        reconciler: Reconciler | None = None,
        stop_orders: StopOrders | None = None,
        artifacts: Library | None = None,
    ) -> None:
        """Both limits in bytes: of the arguments of one call, and of a whole answer."""
        self._executor = executor
        self._reconciler = reconciler
        self._stop_orders = stop_orders
        self._artifacts = artifacts
        self._store = store
        self._logs = logs
        self._arguments_limit = arguments_limit
        self._answer_limit = answer_limit

    async def Execute(self, request: pb.ExecuteRequest, call: RpcCall) -> bytes:
        invocation = wire.invocation(request.call, call, self._arguments_limit)
        flight = await self._begin(invocation, call)
        execution = await attendance.outlast(flight, invocation)
        _raise_unless_in_band(execution)
        return wire.answer(execution, flight.answer, invocation.as_json)

    async def ExecuteStream(
        self,
        request: pb.ExecuteStreamRequest,
        call: RpcCall,
        write: Callable[[pb.ExecuteStreamResponse], Awaitable[None]],
    ) -> None:
        silence = wire.heartbeat_seconds(request)
        invocation = wire.invocation(request.call, call, self._arguments_limit)
        flight = await self._begin(invocation, call)
        try:
            await self._stream(flight, invocation, silence, write)
        except ToolwrightError:
            # The reader was too slow: the execution goes on, and the client attaches again.
            raise
        except BaseException:
            attendance.left(flight, invocation)
            raise
        _raise_unless_in_band(flight.execution)

    async def BatchExecute(self, request: pb.BatchExecuteRequest, call: RpcCall) -> pb.BatchExecuteResponse:
        batch = batches.batch(request, call, self._arguments_limit)
        answer = batches.Answer(request, call, self._answer_limit)
        call.parts = answer.parts
        await run(batch, self._executor.execute, answer.add)
        return answer.response()

    async def GetExecution(self, request: pb.GetExecutionRequest, call: RpcCall) -> pb.GetExecutionResponse:
        key = request.WhichOneof("key")
        if key == "execution_id":
            found = await self._owned(request.execution_id, call)
        elif key == "request_id" and request.request_id:
            name = request.request_id
            found = await self._store.find(call.caller, name) if texts.may_name(name) else None
        else:
            raise invalid("key", "execution_id or request_id is required")
        if found is None:
            raise _unknown(request.request_id)
        # Without credentials agents are who operators are: nobody is told what only operators may hear.
        for_operator = call.caller is not ANONYMOUS and call.caller.role.includes(Role.OPERATOR)
        described = wire.in_full(found, as_json=request.value_json or None, for_operator=for_operator)
        return pb.GetExecutionResponse(execution=described)

    async def ListExecutions(self, request: pb.ListExecutionsRequest, call: RpcCall) -> pb.ListExecutionsResponse:
        size = lists.page_size(request.page_size, PAGE_DEFAULT)
        condition = filters.parse(request.filter, FILTER_FIELDS)
        asked = (call.method, request.filter)
        before = lists.page_start(request.page_token, *asked)
        query = ExecutionQuery(size + 1, before, condition)
        rows = await self._store.list(call.caller, query)
        more = lists.page_token(rows[size - 1].execution_id, *asked) if len(rows) > size else ""
        executions = [wire.execution(row, with_result=False) for row in rows[:size]]
        return pb.ListExecutionsResponse(executions=executions, next_page_token=more)

    async def WaitExecution(
        self,
        request: pb.WaitExecutionRequest,
        call: RpcCall,
        write: Callable[[pb.WaitExecutionResponse], Awaitable[None]],
    ) -> None:
        silence = wire.heartbeat_seconds(request)
        execution = await self._owned(request.execution_id, call)
        flight = self._executor.attend(execution)
        events = self._logs.find(execution.execution_id) or flight.events
        after = request.after_sequence if request.after_sequence >= 0 else events.last_sequence
        batches = follow(events, after, silence)
        await _write_events(execution, batches, pb.WaitExecutionResponse, write)
        # Who was there when it ended gets what the tool answered, and not only what is kept of it.
        ended = flight.execution
        await write(pb.WaitExecutionResponse(event=messages.finished(ended, flight.answer, ended.as_json)))

    async def CancelExecution(self, request: pb.CancelExecutionRequest, call: RpcCall) -> pb.CancelExecutionResponse:
        execution = await self._owned(request.execution_id, call)
        if not self._executor.stop(execution.execution_id, Stop.REQUESTED) and not execution.ended:
            assert self._stop_orders is not None, "an execution of another server, and no way to reach it"
            await self._stop_orders.give(execution)
        return pb.CancelExecutionResponse(execution=wire.execution(execution))

    async def ReconcileExecution(
        self, request: pb.ReconcileExecutionRequest, call: RpcCall
    ) -> pb.ReconcileExecutionResponse:
        execution = await self._owned(request.execution_id, call)
        call.caller.require(Role.OPERATOR)
        if self._reconciler is None:
            raise ToolwrightError(Reason.INVALID_STATE, "this server keeps no record that could be reconciled")
        declared = _declared(request)
        if declared is None:
            settled = await self._reconciler.look_up(execution.execution_id, call.caller)
        else:
            settled = await self._reconciler.declare(execution.execution_id, call.caller, declared)
        return pb.ReconcileExecutionResponse(execution=wire.execution(settled))

    async def ReadArtifact(
        self,
        request: pb.ReadArtifactRequest,
        call: RpcCall,
        write: Callable[[pb.ReadArtifactResponse], Awaitable[None]],
    ) -> None:
        if self._artifacts is None:
            raise ToolwrightError(Reason.INVALID_STATE, "this server keeps no artifacts")
        if not request.artifact_id:
            raise invalid("artifact_id", "is required")
        execution, artifact = await self._artifacts.find(call.caller, request.artifact_id)
        call.execution_id, call.tool = execution.execution_id, execution.tool
        described = pb.ReadArtifactResponse(artifact=wire.artifact(execution, artifact))
        async with aclosing(self._artifacts.pages(execution, artifact, request.offset, request.limit)) as pages:
            async for page in pages:
                described.data = page
                await write(described)
                described = pb.ReadArtifactResponse()
        if described.HasField("artifact"):
            await write(described)

    async def _begin(self, invocation: Invocation, call: RpcCall) -> Flight | Distant:
        call.tool = invocation.tool
        flight = await self._executor.execute(invocation)
        call.execution_id = flight.execution.execution_id
        call.trailers.append((EXECUTION_ID_TRAILER, call.execution_id))
        if isinstance(flight, Flight) and flight.is_of(invocation):
            left = headline(flight.admission)
            if left:
                call.trailers.append((RATE_LIMIT_TRAILER, left))
        return flight

    async def _stream(
        self,
        flight: Flight | Distant,
        invocation: Invocation,
        silence: float,
        write: Callable[[pb.ExecuteStreamResponse], Awaitable[None]],
    ) -> None:
        until = attendance.latest(flight, invocation)
        batches = follow(flight.events, 0, silence, until, attached=True)
        await _write_events(flight.execution, batches, pb.ExecuteStreamResponse, write)
        if not flight.finished:
            await attendance.part(flight, invocation)
        message = messages.finished(flight.execution, flight.answer, invocation.as_json)
        await write(pb.ExecuteStreamResponse(event=message))

    async def _owned(self, execution_id: str, call: RpcCall) -> Execution:
        if not execution_id:
            raise invalid("execution_id", "is required")
        found = await self._store.get(call.caller, execution_id) if texts.may_name(execution_id) else None
        if found is None:
            raise _unknown(execution_id)
        return found


async def _write_events(
    execution: Execution,
    batches: AsyncIterator[Sequence[Event]],
    response: type[Response],
    write: Callable[[Response], Awaitable[None]],
) -> None:
    await write(response(event=messages.snapshot(execution)))
    async for batch in batches:
        if not batch:
            await write(response(event=messages.heartbeat(execution)))
        for event in batch:
            message = response()
            messages.fill_event(message.event, execution.execution_id, event)
            await write(message)


def _raise_unless_in_band(execution: Execution) -> None:
    if execution.failure is not None and execution.failure.reason not in IN_BAND:
        raise ToolwrightError.of(execution.failure)


def _declared(request: pb.ReconcileExecutionRequest) -> Declared | None:
    """What an operator found out; None: the tool is asked. Raises INVALID_ARGUMENTS."""
    if len(request.note) > NOTE_LIMIT:
        raise invalid("note", f"has more than {NOTE_LIMIT} characters")
    if request.verdict not in pb.Verdict.values():
        raise invalid("verdict", "is not known")
    if request.HasField("value_json") and request.verdict != pb.VERDICT_SUCCEEDED:
        raise invalid("value_json", "goes with VERDICT_SUCCEEDED alone")
    if request.verdict == pb.VERDICT_UNSPECIFIED:
        if request.note:
            raise invalid("note", "goes with a verdict alone")
        return None
    result = request.value_json.encode() if request.HasField("value_json") else None
    return Declared(request.verdict == pb.VERDICT_SUCCEEDED, result, request.note)


def _unknown(key: str) -> ToolwrightError:
    return ToolwrightError(Reason.RESOURCE_NOT_FOUND, f"there is no execution {key[:128]!r}")
