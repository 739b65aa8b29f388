"""What a caller may say about one call, written once for every method that makes a call, and the ToolCall it makes."""

import json
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack
from uuid import uuid4

import grpc

from toolwright.v1 import common_pb2
from toolwright_client.deadline import LONGEST_SECONDS, surrounding_execution
from toolwright_client.errors import InvalidArguments, PayloadTooLarge
from toolwright_client.model import NOT_STARTED, Failure, Violation
from toolwright_client.wire import duration

MAX_ARGUMENT_BYTES = 4 * 1024 * 1024

Arguments = Mapping[str, Any]


class ToolOptions(TypedDict, total=False):
    """What a caller may say about one call of a tool, alone or in a batch."""

    tool_timeout: float
    """Seconds that the tool may take, queueing included. Default: the tool's own timeout."""
    version: str
    """Version of the tool. Default: the newest."""
    request_id: str
    """Names the call, at most 128 characters: for a day the same call under the same name is done once, and answered as
    often as it is made; `find` can look it up. Default: a random one."""
    user_id: str
    session_id: str
    agent_id: str
    task_id: str
    labels: Mapping[str, str]
    max_attempts: int
    """Most attempts of the tool, the first one included: fewer than the tool's own, 1 for never again."""
    max_cost_micros: int
    """Most that the call may cost, in millionths of a credit. Default: the server's limit for one call."""
    detach: bool | None
    """Let the execution go on to its own timeout when the caller disconnects or runs out of time.

    Default (None): only for a SIDE_EFFECT tool, outside of tools and handlers; then cancelling the call still stops the
    tool. With True, cancelling leaves it running.
    """


class CallOptions(ToolOptions, total=False):
    """What a caller may say about one call, and about the rpc that makes it."""

    timeout: float
    """Seconds until the answer must be here: the gRPC deadline. Default: the client's."""
    metadata: Mapping[str, str]
    """Sent along as gRPC metadata."""


class Call:
    """One call of a batch: the same tool, arguments and options as for `execute`."""

    __slots__ = ("arguments", "options", "tool")

    def __init__(self, tool: str, arguments: Arguments | None = None, **options: Unpack[ToolOptions]) -> None:
        self.tool = tool
        self.arguments = arguments
        self.options = options


def encoded(arguments: Arguments | None) -> str:
    """Arguments as JSON text. Raises InvalidArguments or PayloadTooLarge: nothing was sent."""
    try:
        text = json.dumps(dict(arguments or {}), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(_unreadable(error)) from error
    if size > MAX_ARGUMENT_BYTES:
        failure = Failure(
            code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            reason="PAYLOAD_TOO_LARGE",
            message=f"the arguments are {size} bytes of JSON, at most {MAX_ARGUMENT_BYTES} may be; nothing was sent",
            suggested_action="Send less, or send a reference to the data.",
            metadata={"outcome": NOT_STARTED, "size": str(size), "limit": str(MAX_ARGUMENT_BYTES)},
        )
        raise PayloadTooLarge(failure)
    return text


def _unreadable(error: Exception) -> Failure:
    message = f"the arguments cannot be written as JSON: {error}"
    return Failure(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_ARGUMENTS",
        message=message,
        suggested_action="Pass only None, bool, int, finite float, str, lists and dicts with string keys.",
        metadata={"outcome": NOT_STARTED},
        violations=(Violation("", message),),
    )


def tool_call(tool: str, arguments: Arguments | None, options: ToolOptions) -> common_pb2.ToolCall:
    """The message for one call, named by a request id in any case.

    Raises InvalidArguments, PayloadTooLarge, or ValueError for a tool_timeout that is no time.
    """
    call = common_pb2.ToolCall(
        tool=tool,
        tool_version=options.get("version", ""),
        arguments_json=encoded(arguments),
        request_id=options.get("request_id") or uuid4().hex,
        detach_on_disconnect=bool(options.get("detach")),
        user_id=options.get("user_id", ""),
        session_id=options.get("session_id", ""),
        agent_id=options.get("agent_id", ""),
        task_id=options.get("task_id", ""),
        parent_execution_id=surrounding_execution(),
        labels=options.get("labels", {}),
    )
    if (max_attempts := options.get("max_attempts")) is not None:
        call.max_attempts = max_attempts
    if (max_cost_micros := options.get("max_cost_micros")) is not None:
        call.max_cost_micros = max_cost_micros
    if (tool_timeout := options.get("tool_timeout")) is not None:
        if not 0 < tool_timeout <= LONGEST_SECONDS:
            limit = f"{LONGEST_SECONDS:g}"
            message = f"tool_timeout must be a positive number of seconds up to {limit}, it is {tool_timeout}"
            raise ValueError(message)
        call.timeout.CopyFrom(duration(tool_timeout))
    return call
