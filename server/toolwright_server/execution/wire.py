"""Between the protos and the executor: the only place where execution messages are built or read."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from google.protobuf.message import Message

from toolwright.v1 import common_pb2 as pb
from toolwright.v1 import tool_execution_pb2 as pb_execution
from toolwright_server.artifacts.model import Artifact, artifact_id
from toolwright_server.catalog.model import ATTEMPTS_LIMIT, Effect
from toolwright_server.errors import Failure, invalid
from toolwright_server.execution import canonical, texts
from toolwright_server.execution.deadline import client_budget
from toolwright_server.execution.model import CacheMode, Execution, Invocation, LimitWarning, State
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.wellknown import (
    fill_duration,
    fill_timestamp,
    fill_value,
    from_struct,
    read_duration,
)

# Bytes of arguments as a Struct, encoded, and of a result as a Value, as JSON. Both are walked in Python, on the event
# loop: a Struct of 4 MiB takes a quarter of a second, a Value one and a half.
STRUCT_LIMIT = 256 * 1024
# The reason of a Warning about a limit.
LIMIT_NEARLY_REACHED = "LIMIT_NEARLY_REACHED"
_CACHE_MODES: Mapping[int, CacheMode] = {0: CacheMode.DEFAULT, **{int(mode): mode for mode in CacheMode}}
_EFFECTS = {effect: pb.Effect.Value(f"EFFECT_{effect.name}") for effect in Effect}


def invocation(call: pb.ToolCall, rpc: RpcCall, arguments_limit: int) -> Invocation:
    """What was asked. Raises INVALID_ARGUMENTS or PAYLOAD_TOO_LARGE."""
    arguments, encoded, as_json = read_arguments(call, arguments_limit)
    # Each field is read once: reading one makes a new text.
    tool, version, request_id, user = call.tool, call.tool_version, call.request_id, call.user_id
    session, agent, task, parent = call.session_id, call.agent_id, call.task_id, call.parent_execution_id
    texts.check((tool, version, request_id, user, session, agent, task, parent))
    labels = dict(call.labels) if call.labels else {}
    if labels:
        texts.check_labels(labels)
    return Invocation(
        caller=rpc.caller.acting_for(user),
        tool=tool,
        tool_version=version,
        arguments=arguments,
        canonical=encoded,
        as_json=as_json,
        trace=rpc.trace,
        received=rpc.received,
        client_budget=None if rpc.remaining is None else client_budget(rpc.remaining),
        timeout=_timeout(call),
        max_attempts=_max_attempts(call),
        detach=call.detach_on_disconnect,
        request_id=request_id,
        session_id=session,
        agent_id=agent,
        task_id=task,
        parent_execution_id=parent,
        labels=labels,
        max_cost_micros=_max_cost(call),
        cache_mode=_cache_mode(call),
        allow_fallback=call.allow_fallback if call.HasField("allow_fallback") else None,
    )


def read_arguments(message: Any, limit: int) -> tuple[dict[str, Any], bytes, bool]:
    """Arguments, their canonical form, and whether they came as JSON text; `message` has the oneof `arguments_form`."""
    form = message.WhichOneof("arguments_form")
    if form == "arguments_json":
        return *canonical.parse(message.arguments_json, limit), True
    if form is None:
        return {}, b"{}", False
    size = message.arguments.ByteSize()
    if size > STRUCT_LIMIT:
        raise canonical.too_large(size, STRUCT_LIMIT, "as a Struct; send larger ones as arguments_json")
    return *canonical.checked(from_struct(message.arguments), "arguments", limit), False


def _timeout(call: pb.ToolCall) -> float | None:
    if not call.HasField("timeout"):
        return None
    seconds = read_duration(call.timeout, "call.timeout")
    if seconds <= 0:
        raise invalid("call.timeout", "must be positive")
    return seconds


def _max_attempts(call: pb.ToolCall) -> int | None:
    if not call.HasField("max_attempts"):
        return None
    if not 1 <= call.max_attempts <= ATTEMPTS_LIMIT:
        raise invalid("call.max_attempts", f"must be 1 to {ATTEMPTS_LIMIT}")
    return call.max_attempts


def _max_cost(call: pb.ToolCall) -> int | None:
    if not call.HasField("max_cost_micros"):
        return None
    if call.max_cost_micros < 0:
        raise invalid("call.max_cost_micros", "must not be negative")
    return call.max_cost_micros


def _cache_mode(call: pb.ToolCall) -> CacheMode:
    mode = _CACHE_MODES.get(call.cache_mode)
    if mode is None:
        raise invalid("call.cache_mode", "is not known")
    return mode


def heartbeat_seconds(request: Any, longest: float = 15.0) -> float:
    """`heartbeat_interval` of a request in seconds; absent: the longest. Raises INVALID_ARGUMENTS outside 1 s..15 s."""
    if not request.HasField("heartbeat_interval"):
        return longest
    seconds = read_duration(request.heartbeat_interval, "heartbeat_interval")
    if not 1 <= seconds <= longest:
        raise invalid("heartbeat_interval", f"{seconds:.10g} s lies outside 1 s to {longest:g} s")
    return seconds


def execution(row: Execution, *, as_json: bool | None = None, with_result: bool = True) -> pb.Execution:
    """An execution as it is kept; the result in the form of the call unless `as_json` says otherwise."""
    message = answered(row, row.result if with_result else None, row.as_json if as_json is None else as_json)
    if row.artifacts and not with_result:
        for each in message.result.artifacts:
            each.ClearField("preview")
    return message


def in_full(row: Execution, *, as_json: bool | None = None, for_operator: bool) -> pb.Execution:
    """The same with the arguments, as far as they are kept, and with what only operators are told."""
    message = execution(row, as_json=as_json)
    if for_operator and row.failure is not None:
        message.error.admin_message = row.failure.admin_message
    if row.arguments is not None:
        message.arguments_json = row.arguments  # pyright: ignore[reportAttributeAccessIssue] (as in _result)
    return message


def answered(row: Execution, result: bytes | None, as_json: bool) -> pb.Execution:
    """An execution with a result of its own, which need not be the one that is kept."""
    message = pb.Execution(
        execution_id=row.execution_id,
        state=row.state,  # pyright: ignore[reportArgumentType] (as below)
        tool=row.tool,
        tool_version=row.tool_version,
        deadline_source=row.deadline_source,  # pyright: ignore[reportArgumentType] (the numbers are the contract's)
        last_sequence=row.last_sequence,
        request_id=row.request_id,
        task_id=row.task_id,
        parent_execution_id=row.parent_execution_id,
        tenant_id=row.caller.tenant,
        user_id=row.caller.user,
        agent_id=row.agent_id,
        session_id=row.session_id,
        server_id=row.server_id,
        trace_id=row.trace_id,
        stopped=row.stopped,  # pyright: ignore[reportArgumentType] (as above)
        category=row.category,
        effect=_EFFECTS[row.effect],
        principal_id=row.caller.principal,
        audit_id=row.audit_id,
    )
    if row.labels:
        message.labels.update(row.labels)
    fill_timestamp(message.create_time, row.create_time)
    fill_timestamp(message.deadline, row.deadline_time)
    if row.start_time is not None:
        fill_timestamp(message.start_time, row.start_time)
    if row.end_time is not None:
        fill_timestamp(message.end_time, row.end_time)
    _usage(message.usage, row)
    for warning in row.warnings:
        fill_warning(message.warnings.add(), warning)
    if row.failure is not None:
        fill_error(message.error, row.failure)
    has_artifacts = row.artifacts and row.state is State.SUCCEEDED
    if result is not None or has_artifacts:
        _source(message.result, row)
    if result is not None:
        _result(message.result, result, as_json)
    if row.source_execution_id:
        message.source_execution_id = row.source_execution_id
    if has_artifacts:
        _artifacts(message.result, row)
    return message


def answer(row: Execution, result: bytes | None, as_json: bool) -> bytes:
    """The encoded ExecuteResponse of an execution that has ended, with the result as its tool answered it.

    Nearly every answer is a success of a common kind. Such a one is put together from encoded parts, most of them made
    before: fields may come in any order, and encodings one after the other are one message. It saves half of the cost.
    """
    caller = row.caller
    rare = row.labels or row.hold_micros or row.warnings or row.artifacts or row.fallback is not None
    if result is None or row.start_time is None or not as_json or rare:
        return pb_execution.ExecuteResponse(execution=answered(row, result, as_json)).SerializeToString()
    inner = b"".join(
        (
            _constant(
                (
                    row.tool,
                    row.tool_version,
                    row.category,
                    row.effect,
                    caller.tenant,
                    caller.principal,
                    caller.user,
                    row.server_id,
                    row.audit_id,
                )
            ),
            _encoded(_EXECUTION_ID, row.execution_id.encode()),
            _encoded(_TASK_ID, row.task_id.encode()),
            _encoded(_TRACE_ID, row.trace_id.encode()),
            _named(row),
            _numbers(row),
            _encoded(_RESULT, _FROM_TOOL + _encoded(_VALUE_JSON, result)),
        )
    )
    return _encoded(_EXECUTION, inner)


@lru_cache(1_024)
def _constant(shared: tuple[str, str, str, Effect, str, str, str, str, str]) -> bytes:
    """What many answers share."""
    tool, version, category, effect, tenant, principal, user, server_id, audit_id = shared
    return pb.Execution(
        tool=tool,
        tool_version=version,
        category=category,
        effect=_EFFECTS[effect],
        tenant_id=tenant,
        principal_id=principal,
        user_id=user,
        server_id=server_id,
        audit_id=audit_id,
    ).SerializeToString()


def _named(row: Execution) -> bytes:
    """The names that a caller may give, and often does not."""
    if not (row.request_id or row.parent_execution_id or row.agent_id or row.session_id):
        return b""
    return pb.Execution(
        request_id=row.request_id,
        parent_execution_id=row.parent_execution_id,
        agent_id=row.agent_id,
        session_id=row.session_id,
    ).SerializeToString()


class _Numbers:
    """One message for the numbers of every answer, filled over and over: it holds no text, so it never grows."""

    def __init__(self) -> None:
        self.message = pb.Execution()
        self.created, self.deadline = self.message.create_time, self.message.deadline
        self.started, self.ended = self.message.start_time, self.message.end_time
        self.usage = self.message.usage
        self.tool, self.queue = self.usage.tool_duration, self.usage.queue_duration

    def __call__(self, row: Execution) -> bytes:
        message = self.message
        message.state = row.state  # pyright: ignore[reportAttributeAccessIssue] (the numbers are the contract's)
        message.stopped = row.stopped  # pyright: ignore[reportAttributeAccessIssue] (as above)
        message.deadline_source = row.deadline_source  # pyright: ignore[reportAttributeAccessIssue] (as above)
        message.last_sequence = row.last_sequence
        fill_timestamp(self.created, row.create_time)
        fill_timestamp(self.deadline, row.deadline_time)
        fill_timestamp(self.started, row.start_time or 0.0)
        fill_timestamp(self.ended, row.end_time or 0.0)
        self.usage.attempts = row.attempts
        fill_duration(self.tool, row.tool_seconds or 0.0)
        fill_duration(self.queue, row.queue_seconds or 0.0)
        return message.SerializeToString()


_numbers = _Numbers()


def _tag(message: type[Message], name: str) -> bytes:
    """How a field of text, bytes or a message begins."""
    return _varint(message.DESCRIPTOR.fields_by_name[name].number << 3 | 2)


def _encoded(tag: bytes, data: bytes) -> bytes:
    return tag + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    if number < 1 << 7:
        return _BYTES[number]
    if number < 1 << 14:
        return _BYTES[number & 0x7F | 0x80] + _BYTES[number >> 7]
    return _BYTES[number & 0x7F | 0x80] + _varint(number >> 7)


_BYTES = [bytes((number,)) for number in range(256)]
_EXECUTION = _tag(pb_execution.ExecuteResponse, "execution")
_EXECUTION_ID, _TASK_ID, _TRACE_ID, _RESULT = (
    _tag(pb.Execution, name) for name in ("execution_id", "task_id", "trace_id", "result")
)
_VALUE_JSON = _tag(pb.ToolResult, "value_json")
_FROM_TOOL = pb.ToolResult(source=pb.RESULT_SOURCE_TOOL).SerializeToString()


def _usage(message: pb.Usage, row: Execution) -> None:
    message.attempts = row.attempts
    if row.hold_micros:
        _cost(message, row)
    if row.tool_seconds is not None:
        fill_duration(message.tool_duration, row.tool_seconds)
    if row.queue_seconds is not None:
        fill_duration(message.queue_duration, row.queue_seconds)


def _cost(message: pb.Usage, row: Execution) -> None:
    message.cost_micros = row.cost_micros
    if row.balance_micros is not None:
        message.balance_micros = row.balance_micros
    message.held_micros = row.held_micros


def fill_warning(message: pb.Warning, warning: LimitWarning) -> None:
    """A limit that is nearly used up, written into an empty Warning."""
    message.reason = LIMIT_NEARLY_REACHED
    message.message = (
        f"{warning.subject}: {warning.used} of {warning.limit} are used, {warning.threshold_percent} % or more"
    )
    limit = message.limit
    limit.kind, limit.subject, limit.threshold_percent = warning.kind, warning.subject, warning.threshold_percent
    limit.used, limit.limit = warning.used, warning.limit
    if warning.reset_time is not None:
        fill_timestamp(limit.reset_time, warning.reset_time)


def _source(message: pb.ToolResult, row: Execution) -> None:
    """Where the answer came from, which is said of a value and of an artifact in its place alike."""
    message.source = row.source  # pyright: ignore[reportAttributeAccessIssue] (the numbers are the contract's)
    if row.cached_time is not None:
        fill_timestamp(message.cached_time, row.cached_time)
    if row.fallback is not None:
        message.fallback_tool = row.fallback.tool
        fill_error(message.replaced_error, row.fallback.failure)


def _result(message: pb.ToolResult, result: bytes, as_json: bool) -> None:
    if as_json or len(result) > STRUCT_LIMIT:
        # upb takes UTF-8 bytes for a string field: no copy through str.
        message.value_json = result  # pyright: ignore[reportAttributeAccessIssue]
    else:
        fill_value(message.value, orjson.loads(result))


def _artifacts(message: pb.ToolResult, row: Execution) -> None:
    for each in row.artifacts:
        message.artifacts.append(artifact(row, each))
        if each.is_value:
            message.value_artifact_id = artifact_id(row.execution_id, each.number)


def artifact(row: Execution, described: Artifact) -> pb.Artifact:
    """The description of an artifact."""
    message = pb.Artifact(
        artifact_id=artifact_id(row.execution_id, described.number),
        name=described.name,
        media_type=described.media_type,
        size_bytes=described.size_bytes,
        sha256=described.sha256,
        preview=described.preview,
    )
    if described.expire_time is not None:
        fill_timestamp(message.expire_time, described.expire_time)
    return message


def fill_error(message: pb.ExecutionError, failure: Failure) -> None:
    """A failure, written into an empty ExecutionError."""
    message.code = failure.reason.code
    message.reason = failure.reason.name
    message.message = failure.message
    message.user_message, message.suggested_action = failure.words()
    message.retryable = failure.may_retry()
    if failure.retry_delay is not None:
        fill_duration(message.retry_delay, failure.retry_delay)
    message.metadata.update(failure.metadata)
    for violation in failure.violations:
        message.violations.add(field=violation.field, description=violation.description)
