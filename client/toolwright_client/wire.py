"""The only place where messages are read or built. It knows no connection and raises no rpc errors."""

import json
from datetime import UTC, datetime
from typing import Any, TypedDict

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from toolwright.v1 import common_pb2, tool_catalog_pb2
from toolwright_client import events
from toolwright_client.model import (
    Artifact,
    DeadlineSource,
    Effect,
    Execution,
    Failure,
    Notice,
    Source,
    State,
    Stopped,
    Tool,
    Usage,
    Violation,
)
from toolwright_client.statuses import code_of

_STATES = {number: State(name.removeprefix("STATE_")) for name, number in common_pb2.State.items()}
_STOPPED = {number: Stopped(name.removeprefix("STOPPED_")) for name, number in common_pb2.Stopped.items()}
_SOURCES = {
    number: DeadlineSource(name.removeprefix("DEADLINE_SOURCE_")) for name, number in common_pb2.DeadlineSource.items()
}
_RESULT_SOURCES = {
    number: Source(name.removeprefix("RESULT_SOURCE_"))
    for name, number in common_pb2.ResultSource.items()
    if name.removeprefix("RESULT_SOURCE_") in Source.__members__
}
_EFFECTS = {
    common_pb2.EFFECT_READ_ONLY: Effect.READ_ONLY,
    common_pb2.EFFECT_IDEMPOTENT: Effect.IDEMPOTENT,
}


def duration(seconds: float) -> Duration:
    """Seconds as a Duration."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def _seconds(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def _value(result: common_pb2.ToolResult) -> Any:
    match result.WhichOneof("value_form"):
        case "value_json":
            return json.loads(result.value_json)
        case "value":
            return json_format.MessageToDict(result.value)
        case None:
            return None


def failure(raw: common_pb2.ExecutionError) -> Failure:
    """An error inside an execution."""
    return Failure(
        code=code_of(raw.code),
        reason=raw.reason,
        message=raw.message,
        user_message=raw.user_message,
        suggested_action=raw.suggested_action,
        retryable=raw.retryable,
        retry_delay=_seconds(raw.retry_delay) if raw.HasField("retry_delay") else None,
        metadata=dict(raw.metadata),
        violations=tuple(violation(each) for each in raw.violations),
        admin_message=raw.admin_message,
    )


def artifact(raw: common_pb2.Artifact) -> Artifact:
    """The description of an artifact."""
    return Artifact(
        artifact_id=raw.artifact_id,
        name=raw.name,
        media_type=raw.media_type,
        size_bytes=raw.size_bytes,
        sha256=raw.sha256,
        preview=raw.preview,
        expire_time=_time(raw.expire_time) if raw.HasField("expire_time") else None,
    )


def execution(raw: common_pb2.Execution) -> Execution:
    """An execution. Its value is decoded here; a text that is no JSON raises ValueError."""
    artifacts = tuple(artifact(each) for each in raw.result.artifacts)
    value_artifact = next((each for each in artifacts if each.artifact_id == raw.result.value_artifact_id), None)
    return Execution(
        execution_id=raw.execution_id,
        state=_STATES.get(raw.state, State.UNSPECIFIED),
        tool=raw.tool,
        tool_version=raw.tool_version,
        value=_value(raw.result) if raw.HasField("result") else None,
        artifacts=artifacts,
        value_artifact=value_artifact,
        error=failure(raw.error) if raw.HasField("error") else None,
        create_time=_time(raw.create_time) if raw.HasField("create_time") else None,
        start_time=_time(raw.start_time) if raw.HasField("start_time") else None,
        end_time=_time(raw.end_time) if raw.HasField("end_time") else None,
        deadline=_time(raw.deadline) if raw.HasField("deadline") else None,
        deadline_source=_SOURCES.get(raw.deadline_source, DeadlineSource.UNSPECIFIED),
        usage=_usage(raw.usage) if raw.HasField("usage") else Usage(),
        last_sequence=raw.last_sequence,
        request_id=raw.request_id,
        task_id=raw.task_id,
        parent_execution_id=raw.parent_execution_id,
        tenant_id=raw.tenant_id,
        user_id=raw.user_id,
        agent_id=raw.agent_id,
        session_id=raw.session_id,
        server_id=raw.server_id,
        trace_id=raw.trace_id,
        audit_id=raw.audit_id,
        labels=dict(raw.labels),
        stopped=_STOPPED.get(raw.stopped, Stopped.UNSPECIFIED),
        warnings=tuple(Notice(each.reason, each.message) for each in raw.warnings),
        source=_RESULT_SOURCES.get(raw.result.source, Source.UNSPECIFIED),
        cached_time=_time(raw.result.cached_time) if raw.result.HasField("cached_time") else None,
        source_execution_id=raw.source_execution_id,
        fallback_tool=raw.result.fallback_tool,
        replaced_error=failure(raw.result.replaced_error) if raw.result.HasField("replaced_error") else None,
        raw=raw,
    )


def _usage(raw: common_pb2.Usage) -> Usage:
    return Usage(
        tool_duration=_seconds(raw.tool_duration) if raw.HasField("tool_duration") else None,
        queue_duration=_seconds(raw.queue_duration) if raw.HasField("queue_duration") else None,
        attempts=raw.attempts,
        cost_micros=raw.cost_micros,
        balance_micros=raw.balance_micros if raw.HasField("balance_micros") else None,
        held_micros=raw.held_micros,
    )


def tool(raw: tool_catalog_pb2.Tool) -> Tool:
    """A tool of the catalogue."""
    return Tool(
        name=raw.name,
        version=raw.version,
        display_name=raw.display_name,
        description=raw.description,
        category=raw.category,
        effect=_EFFECTS.get(raw.effect, Effect.SIDE_EFFECT),
        input_schema=json.loads(raw.input_schema_json or "{}"),
        output_schema=json.loads(raw.output_schema_json) if raw.output_schema_json else None,
        timeout=_seconds(raw.timeout) if raw.HasField("timeout") else None,
        enabled=raw.enabled,
        labels=dict(raw.labels),
        raw=raw,
    )


def violation(raw: common_pb2.FieldViolation) -> Violation:
    """One thing that is wrong with the arguments."""
    return Violation(raw.field, raw.description)


class _About(TypedDict):
    execution_id: str
    sequence: int
    time: datetime | None
    raw: common_pb2.ExecutionEvent


def event(raw: common_pb2.ExecutionEvent) -> events.Event | None:
    """An event; absent for a heartbeat."""
    at = _time(raw.event_time) if raw.HasField("event_time") else None
    about = _About(execution_id=raw.execution_id, sequence=raw.sequence, time=at, raw=raw)
    match raw.WhichOneof("event"):
        case "heartbeat":
            return None
        case "progress":
            total = raw.progress.total if raw.progress.HasField("total") else None
            return events.Progress(progress=raw.progress.progress, total=total, message=raw.progress.message, **about)
        case "output":
            chunk = raw.output.data if raw.output.WhichOneof("chunk") == "data" else raw.output.text
            return events.Output(channel=raw.output.channel or "output", chunk=chunk, **about)
        case "log":
            return events.Log(level=raw.log.level, text=raw.log.text, **about)
        case "warning":
            return events.Warned(warning=Notice(raw.warning.reason, raw.warning.message), **about)
        case _:
            return _of_execution(raw, about)


def _of_execution(raw: common_pb2.ExecutionEvent, about: _About) -> events.Event:
    """An event about the execution rather than of its tool; one that is not known to this client."""
    match raw.WhichOneof("event"):
        case "state_change":
            return events.StateChange(
                before=_STATES.get(raw.state_change.from_state, State.UNSPECIFIED),
                now=_STATES.get(raw.state_change.to_state, State.UNSPECIFIED),
                **about,
            )
        case "retry":
            delay = _seconds(raw.retry.delay)
            return events.Retried(attempt=raw.retry.attempt, failure=failure(raw.retry.error), delay=delay, **about)
        case "snapshot":
            return events.Snapshot(execution=execution(raw.snapshot), **about)
        case "finished":
            return events.Finished(execution=execution(raw.finished), **about)
        case _:
            return events.Unrecognised(**about)


def finished(ended: Execution) -> events.Finished:
    """The last event of an execution that was seen to have ended otherwise than by its event."""
    raw = common_pb2.ExecutionEvent(execution_id=ended.execution_id, sequence=ended.last_sequence, finished=ended.raw)
    return events.Finished(
        execution=ended, execution_id=ended.execution_id, sequence=ended.last_sequence, time=ended.end_time, raw=raw
    )
