"""The messages of streams: what happens to an execution, as an event of the contract.

Messages about executions themselves are made in execution/wire.py.
"""

import time
from collections.abc import Callable
from typing import Any

from toolwright.v1 import common_pb2 as pb
from toolwright_server.execution import wire
from toolwright_server.execution.events import (
    Event,
    Happening,
    Logged,
    Progressed,
    Retried,
    StateChanged,
    Warned,
    Wrote,
)
from toolwright_server.execution.model import Execution
from toolwright_server.rpc.wellknown import fill_duration, fill_timestamp


def snapshot(row: Execution) -> pb.ExecutionEvent:
    """The execution as it is now."""
    message = _event(row.execution_id, row.last_sequence, time.time())
    message.snapshot.CopyFrom(wire.execution(row))
    return message


def finished(row: Execution, result: bytes | None, as_json: bool) -> pb.ExecutionEvent:
    """The last event of every stream; `result` as its tool answered it, or as it is kept."""
    message = _event(row.execution_id, row.last_sequence, row.end_time or time.time())
    message.finished.CopyFrom(wire.answered(row, result, as_json))
    return message


def heartbeat(row: Execution) -> pb.ExecutionEvent:
    """Nothing happened."""
    message = _event(row.execution_id, row.last_sequence, time.time())
    message.heartbeat.SetInParent()
    return message


def fill_event(message: pb.ExecutionEvent, execution_id: str, what: Event) -> None:
    """Something that happened, written into the (empty) event of an answer: streams have thousands."""
    message.execution_id = execution_id
    message.sequence = what.sequence
    fill_timestamp(message.event_time, what.time)
    _HAPPENINGS[type(what.what)](message, what.what)


def _event(execution_id: str, sequence: int, seconds: float) -> pb.ExecutionEvent:
    message = pb.ExecutionEvent(execution_id=execution_id, sequence=sequence)
    fill_timestamp(message.event_time, seconds)
    return message


def _progress(message: pb.ExecutionEvent, what: Progressed) -> None:
    message.progress.progress = what.done
    if what.total is not None:
        message.progress.total = what.total
    if what.message:
        message.progress.message = what.message


def _state_change(message: pb.ExecutionEvent, what: StateChanged) -> None:
    message.state_change.from_state = what.before  # pyright: ignore[reportAttributeAccessIssue]
    message.state_change.to_state = what.after  # pyright: ignore[reportAttributeAccessIssue]


def _output(message: pb.ExecutionEvent, what: Wrote) -> None:
    message.output.channel = what.channel
    if isinstance(what.chunk, str):
        message.output.text = what.chunk
    else:
        message.output.data = what.chunk


def _log(message: pb.ExecutionEvent, what: Logged) -> None:
    message.log.level = what.level
    message.log.text = what.text


def _warning(message: pb.ExecutionEvent, what: Warned) -> None:
    wire.fill_warning(message.warning, what.warning)


def _retry(message: pb.ExecutionEvent, what: Retried) -> None:
    message.retry.attempt = what.attempt
    wire.fill_error(message.retry.error, what.failure)
    fill_duration(message.retry.delay, what.delay_seconds)


_HAPPENINGS: dict[type[Happening], Callable[[pb.ExecutionEvent, Any], None]] = {
    Progressed: _progress,
    StateChanged: _state_change,
    Wrote: _output,
    Logged: _log,
    Warned: _warning,
    Retried: _retry,
}
