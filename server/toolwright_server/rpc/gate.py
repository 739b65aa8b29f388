"""The server's own door: how many calls run at once, and none when it is shutting down. Knows no gRPC."""

import asyncio
import random

from toolwright_server.errors import Failure, Reason
from toolwright_server.rpc.call import RpcCall

# Refused callers come back spread over this time, in seconds, not all at once.
_COME_BACK = (0.2, 0.6)
_ELSEWHERE = 0.2

DRAINING = Failure(
    Reason.SERVER_DRAINING,
    "the server is shutting down and starts nothing new",
    retry_delay=_ELSEWHERE,
    metadata={"outcome": "not_started"},
)
ENDED_BY_DRAIN = Failure(
    Reason.SERVER_DRAINING,
    "the server is shutting down and ended this stream; what it showed is not affected",
    suggested_action="Attach again; if the execution is not known there, look it up by its request id.",
    retry_delay=_ELSEWHERE,
)


class Gate:
    """Counts the calls that run. Used on the event loop only."""

    def __init__(self, limit: int) -> None:
        self.active = 0
        self.draining = False
        self._limit = limit
        self._watching: dict[asyncio.Task[object], RpcCall] = {}
        self._quiet: asyncio.Event | None = None

    def refusal(self) -> Failure | None:
        """Why a call that comes in now cannot be served; None: it can, and counts from here on."""
        if self.draining:
            return DRAINING
        if self.active >= self._limit:
            return Failure(
                Reason.CONCURRENCY_LIMITED,
                f"the server runs {self._limit} calls at once, and that many are running",
                retry_delay=random.uniform(*_COME_BACK),  # noqa: S311 - spreads load, protects nothing
                metadata={"limit": str(self._limit), "outcome": "not_started"},
            )
        self.active += 1
        return None

    def leave(self) -> None:
        """A call that was let in is over."""
        self.active -= 1
        if self._quiet is not None and self.active <= len(self._watching):
            self._quiet.set()

    def watches(self, call: RpcCall) -> None:
        """The call only watches others: it does not hold up a shutdown, and is told to end."""
        task = asyncio.current_task()
        assert task is not None
        self._watching[task] = call

    def unwatch(self) -> None:
        """The call of this task is over; called before `leave`."""
        task = asyncio.current_task()
        if task is not None:
            self._watching.pop(task, None)

    def close(self) -> None:
        """Let nobody in from now on."""
        self.draining = True

    @property
    def working(self) -> int:
        """Calls that do more than watch."""
        return self.active - len(self._watching)

    async def quiet(self) -> None:
        """Wait until no call is left but those that watch."""
        while self.working:
            self._quiet = asyncio.Event()
            await self._quiet.wait()

    def end_watching(self) -> int:
        """Tell the calls that only watch to end; returns how many there are."""
        for task, call in self._watching.items():
            call.told_to_end = True
            task.cancel()
        return len(self._watching)
