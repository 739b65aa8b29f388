"""`exec --batch`: many calls at once, a line of JSON for each on standard output, and an exit code for the whole."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands.asking import Ask, UsageError, check_seconds, trace_headers
from toolwright_server.commands.attempting import attempt
from toolwright_server.commands.call_lines import MOST, calls
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit, exit_of_execution, exit_of_status
from toolwright_server.commands.printing import show_json

# How often it is asked how far the batch is.
_LOOK_SECONDS = 1.0
_FETCH_SECONDS = 60.0

Execution = common_pb2.Execution


@dataclass(frozen=True, slots=True)
class Asked:
    """The typed batch. `each` holds for every line that does not say otherwise; its timeout is that of the whole."""

    file: str
    each: Ask
    max_parallel: int = 0
    stop_on_failure: bool = False


def execute(address: str | None, asked: Asked) -> int:
    """Make the calls and print what comes of them; the exit code."""

    def prepare() -> Callable[[grpc.Channel], _Batch]:
        check_seconds("--timeout", asked.each.timeout_seconds)
        if not 0 <= asked.max_parallel <= MOST:
            raise UsageError(f"--max-parallel {asked.max_parallel}: must be 1 to {MOST}")
        prefix, found = calls(asked.file, asked.each)
        return lambda channel: _Batch(channel, asked, prefix, found)

    return attempt(address, prepare)


class _Batch:
    """One batch on a connected channel. Whoever interrupts it cancels it: the rpc ends with its connection."""

    def __init__(self, channel: grpc.Channel, asked: Asked, prefix: str, found: Sequence[common_pb2.ToolCall]) -> None:
        self.execution_id = ""
        # Of all that were given none of their own.
        self.request_id = f"{prefix}-*"
        self._asked = asked
        self._calls = found
        self._stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        self._metadata = trace_headers(os.environ)

    def run(self) -> int:
        """BatchExecute; prints every execution."""
        request = tool_execution_pb2.BatchExecuteRequest(
            calls=self._calls, max_parallel=self._asked.max_parallel, stop_on_failure=self._asked.stop_on_failure
        )
        future = self._stub.BatchExecute.future(
            request, timeout=self._asked.each.timeout_seconds, metadata=self._metadata
        )
        try:
            executions = (self._watched(future) if sys.stderr.isatty() else future.result()).executions
        finally:
            future.cancel()
        for execution in executions:
            show_json(document(self._whole(execution)), people=False)
        return _exit(executions)

    def farewell(self) -> str:
        detached = sum(call.detach_on_disconnect for call in self._calls)
        return f"the batch is cancelled; {detached} of its calls go on without us" if detached else "it is cancelled"

    def _watched(
        self, future: "grpc.Future[tool_execution_pb2.BatchExecuteResponse]"
    ) -> tool_execution_pb2.BatchExecuteResponse:
        """The answer, with a line on standard error that says how far the batch is."""
        from toolwright_server.commands.batch_progress import BatchProgress  # noqa: PLC0415 (scripts do not need it)

        with BatchProgress(self._stub, self._calls, self.request_id, self._metadata) as progress:
            while True:
                try:
                    return future.result(_LOOK_SECONDS)
                except grpc.FutureTimeoutError:
                    progress.look()

    def _whole(self, execution: Execution) -> Execution:
        """The execution with its result, where that was too large for the answer."""
        if not _is_left_out(execution) or execution.error.metadata["kept"] != "true":
            return execution
        request = tool_execution_pb2.GetExecutionRequest(execution_id=execution.execution_id, value_json=True)
        try:
            found = self._stub.GetExecution(request, timeout=_FETCH_SECONDS, metadata=self._metadata).execution
        except grpc.RpcError:
            return execution
        if found.HasField("result"):
            execution.ClearField("error")
            execution.result.CopyFrom(found.result)
        return execution


def _is_left_out(execution: Execution) -> bool:
    return execution.state == common_pb2.STATE_SUCCEEDED and execution.HasField("error")


def _exit(executions: Sequence[Execution]) -> int:
    """9 if nobody knows what any of them did, or else the code of the first that did not succeed."""
    codes = [_code(execution) for execution in executions]
    failed = [code for code in codes if code is not Exit.OK]
    if not failed:
        return Exit.OK
    print(f"toolwright: {len(codes) - len(failed)} of {len(codes)} calls succeeded", file=sys.stderr)
    reasons = Counter(
        execution.error.reason for execution, code in zip(executions, codes, strict=True) if code is not Exit.OK
    )
    for reason, count in reasons.most_common():
        print(f"  {reason}: {count}", file=sys.stderr)
    return Exit.OUTCOME_UNKNOWN if Exit.OUTCOME_UNKNOWN in failed else failed[0]


def _code(execution: Execution) -> Exit:
    return exit_of_status(execution.error.code, "") if _is_left_out(execution) else exit_of_execution(execution)
