"""What a call does that has joined another one: waits for what comes of it, and makes the call itself if it must."""

import asyncio
import time
from dataclasses import replace

from toolwright_server.errors import ToolwrightError
from toolwright_server.execution.attendance import naming
from toolwright_server.execution.backend import NotSent, ToolFailed, Work
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Execution, Invocation, State
from toolwright_server.execution.nested import Execute, begun, ended
from toolwright_server.execution.recall.shared import Seat, Told, told_of


async def joined(flight: Flight, seat: Seat, stand_in: Execute, work: Work) -> bytes:
    """What the call that it has joined was answered. Raises NotSent or ToolFailed with its failure.

    `stand_in` makes the call in place of one that ended for reasons of its own, or that has artifacts; it raises
    ToolwrightError when it is refused.
    """
    del work
    while (told := await seat.outcome()) is None:
        try:
            step = await begun(stand_in, _step(flight))
        except ToolwrightError as refused:
            raise NotSent(refused.failure) from None
        if seat.shared.is_apart:
            told = await _end(flight, step)
            break
    return adopted(flight.execution, told)


async def _end(flight: Flight, step: Flight) -> Told:
    await ended(flight, step)
    if step.execution.state is State.TIMED_OUT:
        # The time of the one for which it ran is the same, and up in this moment: let that be told so itself.
        await asyncio.get_running_loop().create_future()
    return told_of(step)


def adopted(execution: Execution, told: Told) -> bytes:
    """The answer, now that of this execution as well. Raises NotSent or ToolFailed with the failure."""
    execution.source, execution.cached_time = told.source, told.cached_time
    if told.fallback is not None:
        # Under its own id: that of the other execution may be another user's.
        own = naming(told.fallback.failure, execution.execution_id)
        execution.fallback = replace(told.fallback, failure=own)
    if told.user == execution.caller.user:
        execution.source_execution_id = told.execution_id
    if told.failure is not None:
        raise (NotSent if told.rejected else ToolFailed)(told.failure)
    assert told.result is not None, "an answer or a failure"
    return told.result


def _step(flight: Flight) -> Invocation:
    """The same call as a step of this one: an execution of its own, with limits and a price, for all who wait."""
    execution = flight.execution
    return replace(
        flight.invocation,
        trace=flight.trace,
        received=time.monotonic(),
        client_budget=None,
        timeout=None,
        detach=False,
        request_id="",
        task_id=execution.task_id,
        parent_execution_id=execution.execution_id,
        inherited=flight.deadline,
    )
