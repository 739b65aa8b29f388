"""What is compared: each contender names its methods, makes its requests and checks what came back.

The bare server and ours are asked the same; a contender never measures anything.
"""

import re
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import orjson

from benchmarks import bare
from benchmarks.bounds import Bounds, encoded_bounds
from benchmarks.load import GRPC, Wire
from benchmarks.processes import Process
from toolwright.v1.common_pb2 import STATE_SUCCEEDED, ExecutionEvent, ToolCall
from toolwright.v1.tool_execution_pb2 import (
    ExecuteRequest,
    ExecuteResponse,
    ExecuteStreamRequest,
    ExecuteStreamResponse,
)

CALL_SECONDS = 30.0
SAMPLES = 5
ECHO = "diagnostics.echo"


class WrongAnswerError(Exception):
    """An answer was not what it must be: the figures are worth nothing."""


def arguments(size: int) -> str:
    """A JSON object of exactly `size` bytes that looks like what agents send."""
    contact = {"name": "Ada Lovelace", "email": "ada@example.org", "tags": ["lead", "vip"], "score": 0.75, "visits": 12}
    empty = orjson.dumps({**contact, "notes": ""}).decode()
    return orjson.dumps({**contact, "notes": "n" * (size - len(empty))}).decode()


def echo_request(size: int, tool: str = ECHO) -> bytes:
    """The request that both servers get: an ExecuteRequest of a tool that answers its arguments."""
    return ExecuteRequest(call=ToolCall(tool=tool, arguments_json=arguments(size))).SerializeToString()


class Echoing(Protocol):
    """One server under load that answers with what it was sent. `headers` are what its callers send to be let in."""

    name: str
    address: str
    process: Process
    echo_path: str
    headers: Mapping[str, str]
    wire: Wire

    def echo_request(self, size: int) -> bytes:
        """What is sent to have arguments of `size` bytes answered."""
        ...

    def check_echo(self, size: int) -> Bounds:
        """Makes real calls, checks each answer, returns how long an answer may be.

        Raises:
            WrongAnswerError: an answer was wrong.
        """
        ...

    def calls_ok(self, path: str) -> int:
        """How many calls of the method the server itself says it answered with OK."""
        ...


class Contender(Echoing, Protocol):
    """One that streams as well."""

    stream_path: str

    def stream_request(self, steps: int, message_size: int) -> bytes:
        """The request for a stream of so many events."""
        ...

    def check_stream(self, messages: list[bytes], steps: int) -> None:
        """Checks that no event of the stream is missing, twice or out of order.

        Raises:
            WrongAnswerError: one is.
        """
        ...


def call(address: str, path: str, message: bytes) -> bytes:
    """One unary call, made by a real client."""
    return next(samples(address, path, message))


def samples(address: str, path: str, message: bytes, headers: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The answers of SAMPLES calls, one after the other, by a real client."""
    with grpc.insecure_channel(address) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        for _ in range(SAMPLES):
            yield method(message, timeout=CALL_SECONDS, metadata=tuple((headers or {}).items()))


@dataclass
class BareServer:
    """The yardstick."""

    process: Process
    address: str
    name: str = "bare"
    echo_path: str = f"/{bare.SERVICE}/Echo"
    stream_path: str = f"/{bare.SERVICE}/Stream"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    wire: Wire = GRPC

    def echo_request(self, size: int) -> bytes:
        return echo_request(size)

    def check_echo(self, size: int) -> Bounds:
        request = self.echo_request(size)
        for answer in samples(self.address, self.echo_path, request):
            if answer != request:
                raise WrongAnswerError(f"{self.name} echoed other bytes than it was sent")
        return Bounds(len(request), len(request))

    def stream_request(self, steps: int, message_size: int) -> bytes:
        return bare.STREAM_REQUEST.pack(steps, message_size)

    def check_stream(self, messages: list[bytes], steps: int) -> None:
        numbers = [bare.STREAM_NUMBER.unpack_from(message)[0] for message in messages]
        if numbers != list(range(1, steps + 1)):
            raise WrongAnswerError(
                f"{self.name} was to send {steps} numbered messages and sent {len(numbers)} or others"
            )

    def calls_ok(self, path: str) -> int:
        echoes, streams = call(self.address, f"/{bare.SERVICE}/Counts", b"").split()
        return int(echoes if path == self.echo_path else streams)


@dataclass
class Toolwright:
    """Ours. `http` is where its metrics are; `tool` answers its arguments."""

    process: Process
    address: str
    http: str
    name: str = "toolwright"
    echo_path: str = "/toolwright.v1.ToolExecution/Execute"
    stream_path: str = "/toolwright.v1.ToolExecution/ExecuteStream"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    wire: Wire = GRPC
    tool: str = ECHO

    def echo_request(self, size: int) -> bytes:
        return echo_request(size, self.tool)

    def check_echo(self, size: int) -> Bounds:
        request, wanted = self.echo_request(size), orjson.loads(arguments(size))
        bounds: Bounds | None = None
        for answer in samples(self.address, self.echo_path, request, self.headers):
            execution = ExecuteResponse.FromString(answer).execution
            if execution.state != STATE_SUCCEEDED or orjson.loads(execution.result.value_json) != wanted:
                raise WrongAnswerError(f"{self.name} answered {self.tool} with {execution}")
            seen = encoded_bounds(ExecuteResponse(execution=execution))
            bounds = seen if bounds is None else bounds.widened(seen)
        assert bounds is not None
        return bounds

    def stream_request(self, steps: int, message_size: int) -> bytes:
        del message_size
        text = orjson.dumps({"steps": steps, "interval_seconds": 0}).decode()
        return ExecuteStreamRequest(call=ToolCall(tool="diagnostics.count", arguments_json=text)).SerializeToString()

    def check_stream(self, messages: list[bytes], steps: int) -> None:
        events = [ExecuteStreamResponse.FromString(message).event for message in messages]
        kinds = [event.WhichOneof("event") for event in events]
        if kinds[:1] != ["snapshot"] or kinds[-1:] != ["finished"] or kinds.count("finished") != 1:
            raise WrongAnswerError(
                f"{self.name}'s stream of {len(events)} events has no snapshot first and finished last"
            )
        if events[-1].finished.state != STATE_SUCCEEDED:
            raise WrongAnswerError(f"{self.name}'s stream ended with {events[-1].finished}")
        self._check_numbers(events, steps)

    def _check_numbers(self, events: list[ExecutionEvent], steps: int) -> None:
        numbers = [event.sequence for event in events if event.WhichOneof("event") not in {"snapshot", "heartbeat"}]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            missing = numbers[-1] - numbers[0] + 1 - len(numbers)
            raise WrongAnswerError(f"{self.name}'s stream lacks {missing} events of {numbers[-1]}, or disorders them")
        progress = [event.progress.progress for event in events if event.WhichOneof("event") == "progress"]
        if progress != [float(step) for step in range(1, steps + 1)]:
            raise WrongAnswerError(f"{self.name} was to send progress 1 to {steps} and sent {len(progress)} of others")

    def calls_ok(self, path: str) -> int:
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=CALL_SECONDS) as answer:
            return counted_ok(answer.read().decode(), path.removeprefix("/"))


def counted_ok(metrics: str, method: str) -> int:
    """How many calls of the method ended OK, from the count of the histogram rpc.server.call.duration."""
    total = 0.0
    for labels, value in re.findall(r"^rpc_server_call_duration\w*_count\{(.*)\} (\S+)$", metrics, re.MULTILINE):
        pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
        if pairs.get("rpc_method") == method and pairs.get("rpc_response_status_code") == "OK":
            total += float(value)
    return int(total)
