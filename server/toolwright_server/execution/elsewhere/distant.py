"""An execution that is not run here, as whoever waits for it sees it: it has ended, or it runs on another server.

Only its row tells of it. Waiting for it and leaving it change nothing about it.
"""

import asyncio

from toolwright_server.execution.elsewhere.joining import Joining
from toolwright_server.execution.events import Event, Happening, state_changes
from toolwright_server.execution.model import Execution, Invocation


class Distant:
    """Has what callers ask of a Flight, see attendance.py. `execution` is the row as far as it is known here."""

    def __init__(self, execution: Execution, joining: Joining | None) -> None:
        self.execution = execution
        self.events = DistantEvents(self)
        self._joining = joining

    @property
    def finished(self) -> bool:
        """Whether it has ended, as far as is known."""
        return self.execution.ended

    @property
    def answer(self) -> bytes | None:
        """What the record keeps of its tool's answer."""
        return self.execution.result

    async def ended(self, seconds: float | None) -> bool:
        """Wait until it has ended; False when `seconds` passed before."""
        if self.finished:
            return True
        assert self._joining is not None, "an execution of another server, and no way to ask for it"
        try:
            async with asyncio.timeout(seconds):
                self.execution = await self._joining.ended(self.execution.execution_id)
        except TimeoutError:
            pass
        return self.finished

    def is_of(self, invocation: Invocation) -> bool:
        """It was begun by another call."""
        del invocation
        return False


class DistantEvents:
    """Its EventLog: what its row tells."""

    first_sequence = 1

    def __init__(self, distant: Distant) -> None:
        self._distant = distant

    @property
    def closed(self) -> bool:
        return self._distant.finished

    @property
    def last_sequence(self) -> int:
        return len(state_changes(self._distant.execution))

    def append(self, time: float, what: Happening) -> None:
        raise ValueError(f"the execution is not run here: {what} at {time} is not its own")

    def close(self) -> None:
        """The row says whether it is over."""

    def after(self, sequence: int) -> list[Event]:
        return state_changes(self._distant.execution)[sequence:]

    async def wait(self, sequence: int, seconds: float) -> bool:
        return self.last_sequence > sequence or await self._distant.ended(seconds)
