"""`exec`: one call, its result on standard output, and an exit code that says what became of it."""

import os
import sys
import time
from collections.abc import Iterator

import grpc

from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands import failures
from toolwright_server.commands.asking import Ask, UsageError, trace_headers
from toolwright_server.commands.connecting import Unreachable, connected
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, show_json

Event = common_pb2.ExecutionEvent
Answers = Iterator[tool_execution_pb2.ExecuteStreamResponse] | Iterator[tool_execution_pb2.WaitExecutionResponse]


def execute(address: str | None, ask: Ask, *, stream: bool, as_json: bool) -> int:
    """Make the call and print what comes of it; the exit code."""
    people = for_people(as_json=as_json)
    whole = as_json and not stream
    try:
        call = ask.call()
        with connected(address) as channel:
            attempt = _Call(channel, call, ask.timeout_seconds)
            try:
                return attempt.streamed(people=people) if stream else attempt.plain(people=people, whole=whole)
            except grpc.RpcError as error:
                return failures.of_rpc(error, request_id=call.request_id, execution_id=attempt.execution_id).tell()
            except KeyboardInterrupt:
                code = attempt.interrupted()
                sys.stderr.flush()
                # gRPC was interrupted anywhere, locks in hand, and closing the channel may wait for them for ever. The
                # connection ends with the process, and the server stops the call.
                os._exit(code)
            except BrokenPipeError:
                return attempt.unread()
    except UsageError as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.USAGE
    except Unreachable as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.UNAVAILABLE
    except KeyboardInterrupt:
        return Exit.CANCELLED


class _Call:
    """One call on a connected channel. Whoever interrupts it cancels it: the rpc ends with its connection."""

    def __init__(self, channel: grpc.Channel, call: common_pb2.ToolCall, timeout: float | None) -> None:
        self.execution_id = ""
        self._call = call
        self._deadline = None if timeout is None else time.monotonic() + timeout
        # The newest event that was read.
        self._sequence = 0
        self._stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        self._metadata = trace_headers(os.environ)

    def plain(self, *, people: bool, whole: bool) -> int:
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

    def streamed(self, *, people: bool) -> int:
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

    def interrupted(self) -> int:
        """After Ctrl-C: say what becomes of the execution."""
        gone = "it goes on without us" if self._call.detach_on_disconnect else "the call is cancelled"
        print(f"toolwright: interrupted; {gone}", file=sys.stderr)
        for name, text in (("execution", self.execution_id), ("request", self._call.request_id)):
            if text:
                print(f"  {name}: {text}", file=sys.stderr)
        return Exit.CANCELLED

    def unread(self) -> int:
        """After the reader of a pipe went away: nothing more can be told, also not while the interpreter ends."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.CANCELLED

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
        show_json(document(execution.result).get("value"), people=people)
    return _exit(execution)


def _exit(execution: common_pb2.Execution) -> int:
    return Exit.OK if execution.state == common_pb2.STATE_SUCCEEDED else failures.of_execution(execution).tell()


def _lines(events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        show_json(document(event), people=False)
        yield event


def _live(events: Iterator[Event]) -> Iterator[Event]:
    from toolwright_server.commands.watching import watch  # noqa: PLC0415 (scripts do not need it)

    return watch(events)
