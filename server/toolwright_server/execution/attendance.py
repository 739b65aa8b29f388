"""How a caller waits for its execution, and what its leaving means. Never settles anything itself."""

import asyncio
import time
from dataclasses import replace

from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Execution


async def outlast(flight: Flight) -> Execution:
    """Wait until the execution has ended. A caller that leaves takes it along, unless it was detached.

    Raises CLIENT_DEADLINE when the caller's time is up and the detached execution goes on without it.
    """
    try:
        until = latest(flight)
        finished = await flight.ended(None if until is None else max(0.0, until - time.monotonic()))
    except asyncio.CancelledError:
        left(flight)
        raise
    if not finished:
        raise goes_on(flight)
    return flight.execution


def latest(flight: Flight) -> float | None:
    """The monotonic instant up to which the caller can wait; None: the execution's own deadline comes first."""
    invocation = flight.invocation
    if invocation.client_budget is None or not invocation.detach:
        return None
    return invocation.received + invocation.client_budget


def left(flight: Flight) -> None:
    """The caller cancelled, disconnected or ran out of time."""
    invocation = flight.invocation
    if invocation.detach:
        return
    late = invocation.client_budget is not None and time.monotonic() >= invocation.received + invocation.client_budget
    flight.stop(Stop.CLIENT_DEADLINE if late else Stop.CLIENT_LEFT)


def goes_on(flight: Flight) -> ToolwrightError:
    """The error for a caller whose time is up while its detached execution goes on."""
    failure = Failure(
        Reason.CLIENT_DEADLINE,
        f"the caller's deadline passed; {flight.tool.name} goes on without it",
        suggested_action="Call WaitExecution or GetExecution with the execution id to learn the outcome.",
        metadata={"outcome": "unknown", "state": flight.execution.state.name},
    )
    return ToolwrightError.of(naming(failure, flight.execution.execution_id))


def naming(failure: Failure, execution_id: str) -> Failure:
    """The failure with the id of the execution that it belongs to."""
    return replace(failure, metadata={**failure.metadata, "execution_id": execution_id})
