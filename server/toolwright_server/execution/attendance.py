"""How a caller waits for its execution, and what its leaving means. Never settles anything itself."""

import asyncio
import time
from dataclasses import replace

from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.elsewhere.distant import Distant
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Execution, Invocation


async def outlast(flight: Flight | Distant, invocation: Invocation) -> Execution:
    """Wait until the execution has ended. The last caller that leaves takes it along, unless one of them was detached.

    Raises CLIENT_DEADLINE when the caller's time is up and the detached execution goes on without it.
    """
    try:
        until = latest(flight, invocation)
        finished = await flight.ended(None if until is None else max(0.0, until - time.monotonic()))
    except asyncio.CancelledError:
        left(flight, invocation)
        raise
    if not finished:
        await part(flight, invocation)
    return flight.execution


async def part(flight: Flight | Distant, invocation: Invocation) -> None:
    """The caller's time is up. Returns when the execution has ended because nobody else waited for it.

    Raises CLIENT_DEADLINE when it goes on without the caller.
    """
    if not left(flight, invocation):
        raise goes_on(flight)
    await flight.ended(None)


def latest(flight: Flight | Distant, invocation: Invocation) -> float | None:
    """The monotonic instant up to which the caller can wait; None: the execution's own deadline comes first."""
    own = flight.is_of(invocation) and not invocation.detach
    if invocation.client_budget is None or own:
        return None
    return invocation.received + invocation.client_budget


def left(flight: Flight | Distant, invocation: Invocation) -> bool:
    """The caller cancelled, disconnected or ran out of time; whether that stops the execution."""
    if isinstance(flight, Distant) or not flight.leave():
        return False
    late = invocation.client_budget is not None and time.monotonic() >= invocation.received + invocation.client_budget
    flight.stop(Stop.CLIENT_DEADLINE if late else Stop.CLIENT_LEFT)
    return True


def goes_on(flight: Flight | Distant) -> ToolwrightError:
    """The error for a caller whose time is up while its execution goes on: detached, or with others who wait for it."""
    failure = Failure(
        Reason.CLIENT_DEADLINE,
        f"the caller's deadline passed; {flight.execution.tool} goes on without it",
        suggested_action="Call WaitExecution or GetExecution with the execution id to learn the outcome.",
        metadata={"outcome": "unknown", "state": flight.execution.state.name},
    )
    return ToolwrightError.of(naming(failure, flight.execution.execution_id))


def naming(failure: Failure, execution_id: str) -> Failure:
    """The failure with the id of the execution that it belongs to."""
    return replace(failure, metadata={**failure.metadata, "execution_id": execution_id})
