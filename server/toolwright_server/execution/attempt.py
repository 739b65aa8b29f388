"""What runs between intent and outcome: the tool, in the corridor's own task, until it answers or is told to stop.

A task more would cost every call another turn of the loop. So the order to stop cancels the corridor's own task, and
a tool that does not yield to it keeps that task: the execution is then settled in another one.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict, Unpack

from opentelemetry import context as otel

from toolwright_server.artifacts.writing import Drafts
from toolwright_server.execution.backend import Work
from toolwright_server.execution.charging import report
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.propagation import CallContext
from toolwright_server.telemetry.logs import bind_call

# A call's limit may be that of the call in which it is a step. Timers are exact to a millisecond or two: the step is
# told so much later, or its failure would sometimes be its parent's answer before the parent's own time is up.
LATE_SECONDS = 0.002


# All attempts of a call: what its tool returns, as JSON text. Raises what a Backend raises.
Run = Callable[[Work], Awaitable[bytes]]


class Served(TypedDict):
    """The rest of a Work; see there."""

    call: Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, Any]]
    headers: Callable[[], Mapping[str, str]]
    artifacts: Callable[[], Drafts]
    result_limit_bytes: int


@dataclass(slots=True)
class Answer:
    """What the backend returned or raised; without either it has not ended."""

    value: bytes | None = None
    error: BaseException | None = None


def work_of(flight: Flight, **facts: Unpack[Served]) -> Work:
    """What a backend is told of a call, with what the server does for its tool."""
    execution = flight.execution
    return Work(
        execution_id=execution.execution_id,
        task_id=execution.task_id,
        tool=flight.tool,
        arguments=flight.invocation.arguments,
        caller=execution.caller,
        deadline=flight.deadline,
        reporter=flight,
        context=flight.context,
        nested=flight.invocation.depth > 0,
        charge=partial(report, execution),
        **facts,
    )


async def attempt(
    flight: Flight, work: Work, run: Run, grace_seconds: float, overrun: Callable[[Flight], None]
) -> Answer:
    """Run the tool in the current task, and cancel it when the flight is told to stop. `run` is all its attempts.

    `overrun` is called when it has not ended `grace_seconds` after that. Never raises what the backend raised.
    """
    if flight.stop_reason is not None:
        return Answer(error=asyncio.CancelledError())
    task = flight.task
    assert task is not None
    loop = task.get_loop()
    patience: asyncio.TimerHandle | None = None

    def interrupt() -> None:
        nonlocal patience
        work.cancelled = True
        task.cancel()
        patience = loop.call_later(grace_seconds, overrun, flight)

    flight.interrupt = interrupt
    flight.deadline.arm(flight.time_up, loop, flight.invocation.depth * LATE_SECONDS)
    try:
        answer = Answer(await run(work))
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - what it means is judged by outcome.py
        answer = Answer(error=error)
    finally:
        flight.interrupt = None
        flight.deadline.disarm()
        if flight.deadline.remaining() <= 0:
            # A tool that held the loop beyond its time held up the timer too.
            flight.time_up()
        flight.answered = True
        if patience is not None:
            patience.cancel()
    if task.cancelling():
        await _calm(task)
    return answer


async def _calm(task: "asyncio.Task[None]") -> None:
    """Take back every order to cancel the task, also one that it has not met yet: what follows must not break off."""
    while task.uncancel():
        pass
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass


def scope_of(context: CallContext, trace_id: str, execution_id: str) -> contextvars.Context:
    """The context variables of a corridor: what its tool hands on, and what log lines name."""
    scope = contextvars.copy_context()
    scope.run(_enter, context, trace_id, execution_id)
    return scope


def _enter(context: CallContext, trace_id: str, execution_id: str) -> None:
    otel.attach(context)
    bind_call(trace_id, execution_id)
