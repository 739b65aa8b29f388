"""Answers in the place of a tool that could not: a fixed value, or another tool as a step of the call.

Never after a side effect may have happened, never when the caller or its deadline ended the call, and never in silence:
the failure stays visible beside the answer.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from toolwright_server.catalog.model import Effect, FallbackPolicy
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.attempt import Run
from toolwright_server.execution.attendance import naming
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed, Work
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.intake import given
from toolwright_server.execution.model import Fallback, Invocation, Source, State
from toolwright_server.execution.nested import Execute, begun, ended, step
from toolwright_server.execution.outcome import NOT_STARTED, Outcome

# The tool itself is broken; whether it should be tried again is another question.
_BROKEN: Final = (Reason.TOOL_CRASHED, Reason.MEMORY_LIMIT, Reason.OUTPUT_LIMIT, Reason.OUTPUT_INVALID)

Unanswered = NotSent | ToolFailed | Lost


async def tried(flight: Flight, run: Run, execute: Execute, work: Work) -> bytes:
    """What the tool returns after all its attempts, or what is answered in its place. Raises what `run` raised."""
    arguments = given(flight.invocation, flight.tool)
    try:
        return await run(work)
    except (NotSent, ToolFailed, Lost) as error:
        policy = _policy(flight)
        if policy is None or not _may_replace(flight, error):
            raise
        if policy.value is not None:
            return _given(flight, error.failure, policy.value.encode())
        # Read anew: the tool may have changed what it was given.
        call = _step(flight, policy.tool, orjson.loads(arguments), error)
        return _given(flight, error.failure, await _answer_of(flight, execute, call, error), policy.tool)


def instead(flight: Flight, outcome: Outcome) -> Outcome:
    """The outcome, or the fixed value in the place of a tool that took too long: no other tool has time then."""
    policy, failure = _policy(flight), outcome.failure
    if policy is None or policy.value is None or failure is None or failure.reason is not Reason.TOOL_TIMEOUT:
        return outcome
    if flight.tool.effect is not Effect.READ_ONLY:
        return outcome
    return Outcome(State.SUCCEEDED, result=_given(flight, failure, policy.value.encode()))


def _policy(flight: Flight) -> FallbackPolicy | None:
    policy, asked = flight.tool.fallback, flight.invocation.allow_fallback
    if policy is None or asked is False or (asked is None and not policy.automatic):
        return None
    return policy


def _may_replace(flight: Flight, error: Unanswered) -> bool:
    """Whether the failure speaks of what the tool depends on, and no side effect can have come of it."""
    if flight.stop_reason is not None:
        return False
    if isinstance(error, NotSent):
        return error.failure.may_retry()
    if isinstance(error, Lost):
        return flight.tool.effect is Effect.READ_ONLY
    if flight.tool.effect is Effect.SIDE_EFFECT:
        return False
    return error.failure.may_retry() or error.failure.reason in _BROKEN


def _step(flight: Flight, tool: str, arguments: Mapping[str, Any], error: Unanswered) -> Invocation:
    """The call of another tool. Raises the failure of this one when that was tried before."""
    above = flight.invocation
    chain = (*above.in_place_of, flight.tool.name)
    if tool in chain:
        raise _told(error, f"{tool} was tried before in this call")
    # What the caller asked of the call holds for whatever answers it: nobody chose this step but the server.
    return replace(
        step(flight, tool, arguments),
        max_attempts=above.max_attempts,
        max_cost_micros=above.max_cost_micros,
        cache_mode=above.cache_mode,
        allow_fallback=above.allow_fallback,
        in_place_of=chain,
    )


async def _answer_of(flight: Flight, execute: Execute, call: Invocation, error: Unanswered) -> bytes:
    """What another tool answers to the same arguments. It walks the guards itself, and may fall back in turn.

    Raises the failure of this tool: as NotSent, which lets a caller repeat the call, only while the other one has done
    nothing either.
    """
    tool = call.tool
    try:
        child = await begun(execute, call)
    except ToolwrightError as refused:
        reason = refused.failure.reason
        # Whether there is such a tool is nothing that who may not call it, or from whom it is hidden, is told.
        name = "another tool" if reason in (Reason.FORBIDDEN, Reason.TOOL_NOT_FOUND) else tool
        raise _told(error, f"{name} was refused: {reason.name}") from None
    flight.replaced()
    await ended(flight, child)
    failure, answer = child.execution.failure, child.answer
    if answer is None:
        name = failure.reason.name if failure is not None else child.execution.state.name
        raise _as_far_as_it_came(_told(error, f"{tool} failed as well: {name}"), child)
    schema = flight.tool.output_schema
    if schema is not None and schema.violations(orjson.loads(answer)):
        raise _as_far_as_it_came(_told(error, f"{tool} answered what is no answer of {flight.tool.name}"), child)
    return answer


def _as_far_as_it_came(error: Unanswered, child: Flight) -> Unanswered:
    """The failure, as what is known of the side effect of the tool that was called instead."""
    failure = child.execution.failure
    known = "" if failure is None else failure.metadata.get("outcome", "")
    if child.tool.effect is Effect.READ_ONLY or known == NOT_STARTED:
        return error
    return Lost(error.failure) if known == "unknown" else ToolFailed(error.failure)


def _told(error: Unanswered, why: str) -> Unanswered:
    error.failure = replace(error.failure, metadata={**error.failure.metadata, "fallback": why})
    return error


def _given(flight: Flight, failure: Failure, answer: bytes, tool: str = "") -> bytes:
    flight.forget_artifacts()
    execution = flight.execution
    execution.source = Source.FALLBACK
    # What operators are told is kept of failures of the call alone.
    execution.fallback = Fallback(tool, replace(naming(failure, execution.execution_id), admin_message=""))
    return answer
