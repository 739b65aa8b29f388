"""Reads the events of one execution as they come: a cursor that never holds up the tool."""

import time
from collections.abc import AsyncIterator, Sequence

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.events import Event, EventLog, EventsGone


async def follow(
    events: EventLog, after: int, heartbeat_seconds: float, until: float | None = None, *, attached: bool = False
) -> AsyncIterator[Sequence[Event]]:
    """Batches of events after sequence `after`, in order; an empty batch when nothing happened for a while.

    Ends with the log, or at the monotonic instant `until`. Raises EVENTS_EXPIRED when `after` lies before the first
    kept event, and SLOW_CONSUMER when an event that must not be dropped was gone before it was read; `attached` says
    that the reader was there from the beginning, so that whatever is gone was gone because it lagged.
    """
    began = attached
    while True:
        try:
            batch = events.after(after)
        except EventsGone as gone:
            raise _lagging(gone, after) if began else _expired(gone, after) from None
        began = True
        if batch:
            after = batch[-1].sequence
            yield batch
            continue
        if events.closed:
            return
        patience = heartbeat_seconds if until is None else min(heartbeat_seconds, until - time.monotonic())
        if patience <= 0:
            return
        if not await events.wait(after, patience):
            yield ()


def _expired(gone: EventsGone, after: int) -> ToolwrightError:
    return ToolwrightError(
        Reason.EVENTS_EXPIRED,
        f"the events after {after} are no longer kept; the first kept one is {gone.first_sequence}",
        metadata={"first_sequence": str(gone.first_sequence)},
    )


def _lagging(gone: EventsGone, after: int) -> ToolwrightError:
    return ToolwrightError(
        Reason.SLOW_CONSUMER,
        f"the reader was at event {after} when those before {gone.first_sequence} had to go",
        metadata={"first_sequence": str(gone.first_sequence), "last_read_sequence": str(after)},
    )
