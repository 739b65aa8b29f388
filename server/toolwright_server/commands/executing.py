"""`exec`: one call, its result on standard output, and an exit code that says what became of it."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands import failures
from toolwright_server.commands.asking import Ask, trace_headers
from toolwright_server.commands.attempting import attempt
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json

Event = common_pb2.ExecutionEvent
Answers = Iterator[tool_execution_pb2.ExecuteStreamResponse] | Iterator[tool_execution_pb2.WaitExecutionResponse]


def execute(address: str | None, ask: Ask, *, stream: bool, as_json: bool) -> int:
    """Make the call and print what comes of it; the exit code."""

    def prepare() -> Callable[[grpc.Channel], _Call]:
        call, shown = ask.call(), _Shown(stream=stream, people=for_people(as_json=as_json), whole=as_json)
        return lambda channel: _Call(channel, call, ask.timeout_seconds, shown)

    return attempt(address, prepare)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is printed: while it happens, for people, the whole execution."""

    stream: bool
    people: bool
    whole: bool


class _Call:
    """One call on a connected channel. Whoever interrupts it cancels it: the rpc ends with its connection."""

    def __init__(self, channel: grpc.Channel, call: common_pb2.ToolCall, timeout: float | None, shown: _Shown) -> None:
        self.execution_id = ""
        self.request_id = call.request_id
        self._call = call
        self._shown = shown
        self._deadline = None if timeout is None else time.monotonic() + timeout
        # The newest event that was read.
        self._sequence = 0
        self._stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        self._metadata = trace_headers(os.environ)

    def run(self) -> int:
        shown = self._shown
        return (
            self._streamed(people=shown.people) if shown.stream else self._plain(people=shown.people, whole=shown.whole)
        )

    def farewell(self) -> str:
        return "it goes on without us" if self._call.detach_on_disconnect else "the call is cancelled"

    def _plain(self, *, people: bool, whole: bool) -> int:
        """Execute; prints the result, or the `whole` execution."""
        request = tool_execution_pb2.ExecuteRequest(call=self._call)
        future = self._stub.Execute.future(request, timeout=self._left(), metadata=self._metadata)
        try:
            execution = future.result().execution
            if whole:
                show_json(document(execution), people=False)
            return _exit(execution) if whole else _ended(execution, people=people)
        finally:
            future.cancel()

    def _streamed(self, *, people: bool) -> int:
        """ExecuteStream: live for people, one JSON document for each event and line for programs."""
        finished: common_pb2.Execution | None = None
        for event in _live(self._events()) if people else _lines(self._events()):
            if event.HasField("finished"):
                finished = event.finished
        if finished is None:
            says = "The server ended the stream without saying what became of the execution."
            trouble = failures.Trouble(code=Exit.OUTCOME_UNKNOWN, says=says, execution_id=self.execution_id)
            return trouble.tell()
        if people:
            return _ended(finished, people=True)
        return _exit(finished)

    def _events(self) -> Iterator[Event]:
        """Everything that happens; a reader that was too slow (a pager) attaches again where it was."""
        start = tool_execution_pb2.ExecuteStreamRequest(call=self._call)
        answers: Answers = self._stub.ExecuteStream(start, timeout=self._left(), metadata=self._metadata)
        while True:
            try:
                for answer in answers:
                    self.execution_id = answer.event.execution_id
                    # A snapshot and a heartbeat carry the newest number, whether or not that event was read.
                    if answer.event.WhichOneof("event") not in ("snapshot", "heartbeat"):
                        self._sequence = answer.event.sequence
                    yield answer.event
            except grpc.RpcError as error:
                if failures.reason_of(error) != "SLOW_CONSUMER":
                    raise
            else:
                return
            again = tool_execution_pb2.WaitExecutionRequest(
                execution_id=self.execution_id, after_sequence=self._sequence
            )
            answers = self._stub.WaitExecution(again, timeout=self._left(), metadata=self._metadata)

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


def _ended(execution: common_pb2.Execution, *, people: bool) -> int:
    if execution.state == common_pb2.STATE_SUCCEEDED:
        if not execution.result.value_artifact_id:
            show_json(document(execution.result).get("value"), people=people)
        for each in execution.result.artifacts:
            is_value = each.artifact_id == execution.result.value_artifact_id
            what = "the result, too large to be shown" if is_value else printable(each.name)
            print(f"toolwright: {what}: {each.size_bytes} bytes, `artifact {each.artifact_id}`", file=sys.stderr)
        if execution.result.HasField("replaced_error"):
            _tell_replaced(execution)
    return _exit(execution)


def _tell_replaced(execution: common_pb2.Execution) -> None:
    """What is no answer of the tool looks like one."""
    why, by = execution.result.replaced_error, execution.result.fallback_tool or "a fixed value"
    said = f"answered by {by} in the place of {execution.tool}: {why.reason}: {why.message}"
    print(f"toolwright: {printable(said)}", file=sys.stderr)


def _exit(execution: common_pb2.Execution) -> int:
    return Exit.OK if execution.state == common_pb2.STATE_SUCCEEDED else failures.of_execution(execution).tell()


def _lines(events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        show_json(document(event), people=False)
        yield event


def _live(events: Iterator[Event]) -> Iterator[Event]:
    from toolwright_server.commands.watching import watch  # noqa: PLC0415 (scripts do not need it)

    return watch(events)
