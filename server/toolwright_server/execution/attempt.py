"""One attempt: the backend runs in a task of its own, raced against the order to stop.

The caller gets its answer in time also when the work does not stop; what is seen of it later corrects the record.
"""

import asyncio
import contextvars

from opentelemetry import context as otel

from toolwright_server.execution.backend import Backend, Work
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Stopped
from toolwright_server.telemetry.logs import bind_call


async def attempt(flight: Flight, backend: Backend, work: Work, grace_seconds: float) -> "asyncio.Task[bytes]":
    """Run until the backend answers, or the flight is told to stop and `grace_seconds` have passed.

    Returns the backend's task, which may still run. Never raises what the task raised.
    """
    loop = asyncio.get_running_loop()
    execution = flight.execution
    scope = contextvars.copy_context()
    scope.run(_enter, work, execution.trace_id)
    name = f"tool:{execution.tool}:{execution.execution_id}"
    task = loop.create_task(backend.run(work), name=name, context=scope)
    task.add_done_callback(flight.answered)
    flight.deadline.arm(flight.time_up)
    try:
        await flight.wake
    finally:
        flight.deadline.disarm()
        if not task.done():
            work.cancelled = True
            task.cancel()
    if not task.done():
        await asyncio.wait((task,), timeout=grace_seconds)
    return task


def _enter(work: Work, trace_id: str) -> None:
    otel.attach(work.context)
    bind_call(trace_id, work.execution_id)


def seen_to_end(task: "asyncio.Task[bytes]", backend: Backend) -> Stopped:
    """What is known of the work at this moment."""
    return Stopped.YES if task.done() else backend.unconfirmed
