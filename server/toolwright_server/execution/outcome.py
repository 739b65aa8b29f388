"""What an attempt's end means: the state, the failure and what is known of the side effect. Pure decisions."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.attempt import Answer
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Source, State

_logger = logging.getLogger(__name__)

NOT_STARTED: Final = "not_started"
_DEFECT: Final = "the server failed while it ran the tool"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended: `result` if SUCCEEDED, otherwise `failure`."""

    state: State
    result: bytes | None = None
    failure: Failure | None = None


def judge(flight: Flight, answer: Answer) -> Outcome:
    """The outcome of a flight whose backend has answered, or which was told to stop before."""
    if flight.stop_reason is None:
        return _answered(flight, answer)
    # Told to stop, a SIDE_EFFECT tool may still have answered: then its outcome is known, and known beats unknown.
    if flight.tool.effect is Effect.SIDE_EFFECT and _has_answer(answer):
        return _answered(flight, answer)
    return _stopped(flight, flight.stop_reason)


def _has_answer(answer: Answer) -> bool:
    return answer.value is not None or isinstance(answer.error, (ToolFailed, NotSent))


def _answered(flight: Flight, answer: Answer) -> Outcome:
    error = answer.error
    if error is None and flight.started_at is None and flight.execution.source is Source.TOOL:
        return _unannounced(flight)
    if error is None:
        return Outcome(State.SUCCEEDED, result=answer.value)
    if isinstance(error, ToolFailed):
        return Outcome(State.FAILED, failure=error.failure)
    if isinstance(error, NotSent):
        failure = _with(error.failure, outcome=NOT_STARTED)
        return Outcome(State.REJECTED if flight.started_at is None else State.FAILED, failure=failure)
    if isinstance(error, Lost):
        return _doubtful(flight, State.FAILED, error.failure)
    _logger.error("the backend of %s failed", flight.tool.name, exc_info=error)
    return _doubtful(flight, State.FAILED, Failure(Reason.INTERNAL, _DEFECT))


def _unannounced(flight: Flight) -> Outcome:
    """The backend broke its Protocol. That nothing had started would be a lie: a caller may repeat such a call."""
    _logger.error("the backend of %s answered without having called started()", flight.tool.name)
    failure = Failure(Reason.INTERNAL, _DEFECT, metadata={"outcome": _known(flight)})
    return Outcome(State.FAILED, failure=failure)


def _stopped(flight: Flight, reason: Stop) -> Outcome:
    if reason is Stop.DEADLINE:
        return _doubtful(flight, State.TIMED_OUT, _timeout(flight))
    if reason is Stop.CLIENT_DEADLINE:
        message = f"the caller's deadline passed while {flight.tool.name} ran"
        return _doubtful(flight, State.TIMED_OUT, Failure(Reason.CLIENT_DEADLINE, message, metadata=_facts(flight)))
    message = f"{flight.tool.name} was cancelled: {reason.value}"
    return _doubtful(flight, State.CANCELLED, Failure(Reason.CANCELLED, message))


def _doubtful(flight: Flight, state: State, failure: Failure) -> Outcome:
    """No answer came: whether something happened depends on whether it was started, and on its effect."""
    if flight.started_at is None:
        return Outcome(state, failure=_with(failure, outcome=NOT_STARTED))
    final = State.OUTCOME_UNKNOWN if flight.tool.effect is Effect.SIDE_EFFECT else state
    return Outcome(final, failure=_with(failure, outcome=_known(flight)))


def _known(flight: Flight) -> str:
    """What is known of the side effect of a tool that was started."""
    return "none" if flight.tool.effect is Effect.READ_ONLY else "unknown"


def _timeout(flight: Flight) -> Failure:
    deadline = flight.deadline
    if deadline.source is DeadlineSource.CLIENT:
        message = f"the caller's deadline left {deadline.limit_seconds:.3f} s for {flight.tool.name}; they are used up"
        return Failure(Reason.CLIENT_DEADLINE, message, metadata=_facts(flight))
    message = f"{flight.tool.name} did not end within {deadline.limit_seconds:g} s ({deadline.source.name} timeout)"
    return Failure(Reason.TOOL_TIMEOUT, message, metadata=_facts(flight))


def _facts(flight: Flight) -> Mapping[str, str]:
    limit = flight.deadline.limit_seconds
    return {
        "source": flight.deadline.source.name,
        "limit_seconds": f"{limit:.3f}",
        "elapsed_seconds": f"{max(0.0, limit - flight.deadline.remaining()):.3f}",
        "attempts": str(flight.execution.attempts),
    }


def _with(failure: Failure, **facts: str) -> Failure:
    return replace(failure, metadata={**failure.metadata, **facts})
