"""Between BatchExecute's messages and the batch: what is asked for, and an answer that always fits."""

from collections.abc import Iterable
from functools import partial

from toolwright.v1 import common_pb2 as pb
from toolwright.v1 import tool_execution_pb2 as pb_execution
from toolwright_server.errors import IN_BAND, Failure, Reason, invalid
from toolwright_server.execution import texts, wire
from toolwright_server.execution.batching.batch import Batch, Call, Ended
from toolwright_server.execution.deadline import client_budget
from toolwright_server.execution.model import Execution
from toolwright_server.rpc.call import Part, RpcCall

CALLS_LIMIT = 100
PARALLEL_DEFAULT = 10
# Clients of ours take no larger answer, whatever the server may send.
ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
# What is smaller stays: the error in its place would be no smaller.
_LARGE_BYTES = 1_024
# Tag and length of one execution in the answer, at most.
_FRAME_BYTES = 6


def batch(request: pb_execution.BatchExecuteRequest, rpc: RpcCall, arguments_limit: int) -> Batch:
    """What was asked; the calls themselves are read when they are begun. Raises INVALID_ARGUMENTS."""
    calls = request.calls
    if not 1 <= len(calls) <= CALLS_LIMIT:
        raise invalid("calls", f"must be 1 to {CALLS_LIMIT} calls, there are {len(calls)}")
    if not 0 <= request.max_parallel <= CALLS_LIMIT:
        raise invalid("max_parallel", f"must be 1 to {CALLS_LIMIT}, or 0 for {PARALLEL_DEFAULT}")
    _check_request_ids(calls)
    return Batch(
        calls=[Call(partial(wire.invocation, call, rpc, arguments_limit), call.ByteSize()) for call in calls],
        max_parallel=request.max_parallel or PARALLEL_DEFAULT,
        stop_on_failure=request.stop_on_failure,
        until=None if rpc.remaining is None else rpc.received + client_budget(rpc.remaining),
    )


def _check_request_ids(calls: Iterable[pb.ToolCall]) -> None:
    first: dict[str, int] = {}
    for number, call in enumerate(calls):
        if call.request_id and first.setdefault(call.request_id, number) != number:
            raise invalid(f"calls[{number}].request_id", f"is that of calls[{first[call.request_id]}], too")


class Answer:
    """The answer, filled as calls end. It never holds more results than can be sent: the largest are left out."""

    def __init__(self, request: pb_execution.BatchExecuteRequest, rpc: RpcCall, limit: int) -> None:
        """`limit` in bytes is that of the whole answer."""
        self._asked = request.calls
        self._rpc = rpc
        self._limit = min(limit, ANSWER_LIMIT_BYTES)
        self._response = pb_execution.BatchExecuteResponse(executions=[pb.Execution() for _ in request.calls])
        self._size = 0
        # What could be left out, by the number of its call: whether the record has it, and its size in bytes.
        self._results: dict[int, tuple[bool, int]] = {}
        self.parts: list[Part] = []
        """What is to be logged and audited of each call that has ended."""

    def add(self, number: int, ended: Ended) -> None:
        """A call has ended; it is written down at once, since its row may change."""
        row, message = ended.execution, self._response.executions[number]
        if row is None:
            assert ended.failure is not None
            self._fill_refused(message, self._asked[number], ended.failure)
        else:
            message.CopyFrom(wire.answered(row, ended.result, ended.as_json))
            if ended.failure is not None:
                _replace_error(message, ended.failure)
        size = message.result.ByteSize()
        if row is not None and size > _LARGE_BYTES:
            self._results[number] = (row.result == ended.result, size)
        self._size += _FRAME_BYTES + message.ByteSize()
        self.parts.append(_part(self._asked[number].tool if row is None else row.tool, row, ended))
        while self._size > self._limit and self._results:
            self._leave_out(max(self._results, key=self._results.__getitem__))

    def response(self) -> pb_execution.BatchExecuteResponse:
        """The message, in the order of the calls."""
        return self._response

    def _leave_out(self, number: int) -> None:
        kept, size = self._results.pop(number)
        message = self._response.executions[number]
        before = message.ByteSize()
        message.ClearField("result")
        _replace_error(message, _left_out(message.execution_id, size, self._limit, kept=kept))
        self._size += message.ByteSize() - before

    def _fill_refused(self, message: pb.Execution, asked: pb.ToolCall, failure: Failure) -> None:
        """A call of which no execution came: what is known of it, and why."""
        caller = self._rpc.caller
        unknown = failure.metadata.get("outcome") == "unknown"
        message.state = pb.STATE_OUTCOME_UNKNOWN if unknown else pb.STATE_REJECTED
        message.tool, message.tool_version = _cut(asked.tool), _cut(asked.tool_version)
        message.request_id, message.task_id = _cut(asked.request_id), _cut(asked.task_id)
        message.agent_id, message.session_id = _cut(asked.agent_id), _cut(asked.session_id)
        message.parent_execution_id = _cut(asked.parent_execution_id)
        message.tenant_id, message.principal_id = caller.tenant, caller.principal
        message.user_id = _cut(asked.user_id) or caller.user
        message.trace_id = self._rpc.trace.trace_id
        if failure.reason is Reason.OUTCOME_UNKNOWN:
            # The one that has the request id: who asked wants to know of it.
            message.execution_id = failure.metadata.get("execution_id", "")
        wire.fill_error(message.error, failure)


def _cut(text: str) -> str:
    return text[: texts.TEXT_LIMIT]


def _replace_error(message: pb.Execution, failure: Failure) -> None:
    message.ClearField("error")
    wire.fill_error(message.error, failure)


def _left_out(execution_id: str, size: int, limit: int, *, kept: bool) -> Failure:
    action = "Call GetExecution with the execution id to read the result."
    if not kept:
        action = "Call GetExecution with the execution id for what is kept of the result: not its secrets, or nothing."
    return Failure(
        Reason.PAYLOAD_TOO_LARGE,
        f"the call succeeded; its result of {size} bytes was left out of an answer that has room for {limit}",
        user_message="The answer is too large.",
        suggested_action=action,
        metadata={
            "execution_id": execution_id,
            "size": str(size),
            "limit": str(limit),
            "kept": "true" if kept else "false",
        },
    )


def _part(tool: str, row: Execution | None, ended: Ended) -> Part:
    failure = ended.failure or (row.failure if row is not None else None)
    execution_id = "" if row is None else row.execution_id
    if failure is None or failure.reason in IN_BAND:
        return Part(tool, execution_id, "OK", "", ended.seconds)
    return Part(tool, execution_id, failure.reason.code.name, failure.reason.name, ended.seconds)
