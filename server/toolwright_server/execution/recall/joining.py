"""What a call does that has joined another one: waits for what comes of it, and makes the call itself if it must."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from toolwright_server.errors import ToolwrightError
from toolwright_server.execution.attendance import naming
from toolwright_server.execution.backend import NotSent, ToolFailed, Work
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Execution, Invocation
from toolwright_server.execution.recall.shared import Seat, Told

# Makes the call in place of one that ended for reasons of its own. Raises ToolwrightError when it is refused.
StandIn = Callable[[Invocation], Awaitable[object]]


async def joined(flight: Flight, seat: Seat, stand_in: StandIn, work: Work) -> bytes:
    """What the call that it has joined was answered. Raises NotSent or ToolFailed with its failure."""
    del work
    while (told := await seat.outcome()) is None:
        try:
            await stand_in(_step(flight))
        except ToolwrightError as refused:
            raise NotSent(refused.failure) from None
    return adopted(flight.execution, told)


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
