"""The server's own door: how many calls run at once, and none when it is shutting down. Knows no gRPC."""

import asyncio

from toolwright_server.errors import Failure, Reason, crowded
from toolwright_server.rpc.call import RpcCall

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
    """Counts the calls that work and the streams that only watch, each with a limit of its own: who watches takes no
    place from who works. Used on the event loop only.
    """

    def __init__(self, limit: int, watching_limit: int) -> None:
        # Calls that do more than watch.
        self.working = 0
        self.draining = False
        # Calls that came after `close`.
        self.turned_away = 0
        self._limit = limit
        self._watching_limit = watching_limit
        self._watching: dict[asyncio.Task[object], RpcCall] = {}
        self._quiet: asyncio.Event | None = None

    def refusal(self) -> Failure | None:
        """Why a call that comes in now cannot be served; None: it can, and counts from here on."""
        if self.draining:
            self.turned_away += 1
            return DRAINING
        if self.working >= self._limit:
            return crowded(self._limit, f"the server runs {self._limit} calls at once, and that many are running")
        self.working += 1
        return None

    def leave(self) -> None:
        """A call that was let in is over."""
        self.working -= 1
        if self._quiet is not None and not self.working:
            self._quiet.set()

    def refusal_to_watch(self, call: RpcCall) -> Failure | None:
        """As `refusal`, for a stream that only watches: it does not hold up a shutdown, and is told to end."""
        if self.draining:
            self.turned_away += 1
            return DRAINING
        if len(self._watching) >= self._watching_limit:
            return crowded(self._watching_limit, f"{self._watching_limit} streams watch executions, and no more can")
        task = asyncio.current_task()
        assert task is not None
        self._watching[task] = call
        return None

    def leave_watching(self) -> None:
        """The stream of this task, which was let in, is over."""
        task = asyncio.current_task()
        if task is not None:
            self._watching.pop(task, None)

    @property
    def active(self) -> int:
        """Calls of both kinds."""
        return self.working + len(self._watching)

    def close(self) -> None:
        """Let nobody in from now on."""
        self.draining = True

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
