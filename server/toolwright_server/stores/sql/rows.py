"""Executions as rows and back. The columns are what is filtered by; the rest is one JSON object, the body."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any, Final

import orjson

from toolwright_server.artifacts.model import decoded, encoded
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import Execution, Fallback, LimitWarning, Source, State, Stopped
from toolwright_server.identity import Caller
from toolwright_server.records.audit.encoding import chain_id
from toolwright_server.stores import failures
from toolwright_server.stores.sql.tables import executions

Row = tuple[Any, ...]

COLUMNS: Final = tuple(executions.columns)
# What a later change of an execution may find different. The rest is as it was at first.
MUTABLE: Final = (
    "state",
    "server_id",
    "epoch",
    "end_time",
    "stopped",
    "body",
    "arguments",
    "result",
    "salt",
    "cost_micros",
    "artifacts",
    "admin_message",
)

_COSTS: Final = 24
_ARTIFACTS: Final = 26
_ADMIN_MESSAGE: Final = 27
_STATES = {state.value: state for state in State}
_STOPPED = {stopped.value: stopped for stopped in Stopped}
# By dictionary: Enum calls and `.name` cost ten times as much, twice a call.
_EFFECTS = {effect: effect.value for effect in Effect}
_SOURCES = {source: source.name for source in DeadlineSource}


def values(execution: Execution) -> Row:
    """The row of an execution as it is now, in the order of COLUMNS; labels as JSON text."""
    caller = execution.caller
    return (
        execution.execution_id,
        caller.tenant,
        caller.principal,
        caller.user,
        int(execution.state),
        execution.tool,
        execution.category,
        execution.task_id,
        execution.parent_execution_id,
        execution.session_id,
        execution.agent_id,
        execution.request_id,
        execution.trace_id,
        execution.server_id,
        execution.epoch,
        execution.create_time,
        execution.end_time,
        int(execution.stopped),
        _json(dict(execution.labels)).decode() if execution.labels else None,
        execution.digest,
        _json(_body(execution)),
        execution.arguments,
        execution.result,
        execution.salt,
        execution.hold_micros,
        execution.cost_micros,
        encoded(execution.artifacts) if execution.artifacts else None,
        _admin_message(execution),
    )


def execution(row: Sequence[Any]) -> Execution:
    """The execution of a row that was read in the order of COLUMNS. Its caller is known by its names alone."""
    body = orjson.loads(row[20])
    return Execution(
        execution_id=row[0],
        caller=Caller(row[1], row[2], row[3]),
        state=_STATES[row[4]],
        tool=row[5],
        category=row[6],
        task_id=row[7],
        parent_execution_id=row[8],
        session_id=row[9],
        agent_id=row[10],
        request_id=row[11],
        trace_id=row[12],
        server_id=row[13],
        epoch=row[14],
        create_time=row[15],
        end_time=row[16],
        stopped=_STOPPED[row[17]],
        labels=row[18] or {},
        digest=row[19],
        arguments=row[21],
        result=row[22],
        salt=row[23],
        # Written down beside the database by a release that did not know the last columns, a row ends before them.
        hold_micros=row[24] if len(row) > _COSTS else 0,
        cost_micros=row[25] if len(row) > _COSTS else 0,
        artifacts=decoded(row[26]) if len(row) > _ARTIFACTS and row[26] else (),
        tool_version=body["tool_version"],
        effect=Effect(body["effect"]),
        deadline_time=body["deadline_time"],
        deadline_source=DeadlineSource[body["deadline_source"]],
        as_json=body["as_json"],
        arguments_bytes=body["arguments_bytes"],
        attempts=body["attempts"],
        last_sequence=body["last_sequence"],
        start_time=body.get("start_time"),
        queue_seconds=body.get("queue_seconds"),
        tool_seconds=body.get("tool_seconds"),
        failure=_failure(body["failure"], row) if "failure" in body else None,
        metered=body.get("metered", False),
        reported_micros=body.get("reported_micros", 0),
        warnings=tuple(LimitWarning(*kept) for kept in body.get("warnings", ())),
        source=Source[body.get("source", "TOOL")],
        cached_time=body.get("cached_time"),
        source_execution_id=body.get("source_execution_id", ""),
        fallback=_fallback(body["fallback"]) if "fallback" in body else None,
        audit_id=chain_id(row[1], row[13], row[14]),
    )


def _failure(kept: dict[str, Any], row: Sequence[Any]) -> Failure:
    failure = failures.read(kept)
    told = row[_ADMIN_MESSAGE] if len(row) > _ADMIN_MESSAGE else None
    return replace(failure, admin_message=told) if told else failure


def _admin_message(execution: Execution) -> str | None:
    """In a column of its own, as it can be erased before the rest of the failure."""
    if execution.failure is None or not execution.failure.admin_message:
        return None
    return execution.failure.admin_message


def _fallback(kept: dict[str, Any]) -> Fallback:
    return Fallback(kept["tool"], failures.read(kept["failure"]))


def _body(execution: Execution) -> dict[str, Any]:
    body: dict[str, Any] = {
        "tool_version": execution.tool_version,
        "effect": _EFFECTS[execution.effect],
        "deadline_time": execution.deadline_time,
        "deadline_source": _SOURCES[execution.deadline_source],
        "as_json": execution.as_json,
        "arguments_bytes": execution.arguments_bytes,
        "attempts": execution.attempts,
        "last_sequence": execution.last_sequence,
    }
    if execution.start_time is not None:
        body["start_time"] = execution.start_time
    if execution.queue_seconds is not None:
        body["queue_seconds"] = execution.queue_seconds
    if execution.tool_seconds is not None:
        body["tool_seconds"] = execution.tool_seconds
    if execution.metered:
        body["metered"] = True
        body["reported_micros"] = execution.reported_micros
    if execution.warnings:
        body["warnings"] = [astuple(warning) for warning in execution.warnings]
    if execution.source is not Source.TOOL:
        body["source"], body["cached_time"] = execution.source.name, execution.cached_time
        body["source_execution_id"] = execution.source_execution_id
    if execution.fallback is not None:
        body["fallback"] = {"tool": execution.fallback.tool, "failure": failures.plain(execution.fallback.failure)}
    if execution.failure is not None:
        body["failure"] = failures.plain(execution.failure)
    return body


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # Texts of tools may hold half a surrogate pair, which UTF-8 cannot: an outcome must not be lost for that.
        return orjson.dumps(_clean(value))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_clean(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value
