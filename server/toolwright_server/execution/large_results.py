"""Which part of an outcome becomes artifacts: what the tool wrote as such, and a value too large to be answered inline.

Calls without either never come here.
"""

import threading
from typing import Final

from toolwright_server.artifacts.desk import Desk
from toolwright_server.artifacts.keeper import ArtifactKeeper
from toolwright_server.artifacts.model import ArtifactRefused
from toolwright_server.artifacts.sweeping import Known
from toolwright_server.artifacts.writing import Drafts
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Execution, Source, State
from toolwright_server.execution.outcome import Outcome

_NONE_KEPT: Final = Failure(Reason.TOOL_FAILED, "this server keeps no artifacts")
_ENDED: Final = Failure(Reason.TOOL_FAILED, "the call has ended: it can have no more artifacts")


class LargeResults:
    """`inline_limit` in bytes of a value's JSON text. Without a keeper there are no artifacts.

    The tool may begin one from any thread, and also after it was given up; all the rest is the event loop's.
    """

    def __init__(self, keeper: ArtifactKeeper | None, inline_limit: int) -> None:
        self._keeper = keeper
        self._inline_limit = inline_limit
        # Over which flight has a desk: an execution has one at most, and none that nobody would dismiss.
        self._lock = threading.Lock()

    def drafts(self, flight: Flight) -> Drafts:
        """Where the tool begins its artifacts. From any thread. Raises ArtifactRefused."""
        return self._desk(flight.lender or flight)

    def is_large(self, flight: Flight, value: bytes | None) -> bool:
        """Whether there is, or must be, any artifact."""
        return flight.desk is not None or (value is not None and len(value) > self._inline_limit)

    async def inline_part(self, flight: Flight, outcome: Outcome, end_time: float) -> bytes | None:
        """The value as far as it is answered inline; all the rest is described in the row."""
        number = await self._moved(flight, outcome.result)
        self._describe(flight, outcome.state, end_time, number)
        return None if number else outcome.result

    def recorded(self, flight: Flight) -> None:
        """The record has it: what is not described there may go."""
        execution = flight.execution
        with self._lock:
            desk = flight.desk
        if desk is not None and self._keeper is not None:
            self._keeper.dismiss(execution.execution_id, desk, execution.artifacts)

    async def _moved(self, flight: Flight, value: bytes | None) -> int:
        """The number of the artifact that the value has become; 0 when it is none. That is no harm: it is answered."""
        if self._keeper is None or value is None or not self._moves(flight, value):
            return 0
        return await self._keeper.moved(self._desk(flight), value)

    def _describe(self, flight: Flight, state: State, end_time: float, value_number: int) -> None:
        if self._keeper is None or flight.desk is None:
            return
        execution = flight.execution
        # A tool in whose place something else has answered may go on writing.
        keep = state is State.SUCCEEDED and execution.source is not Source.FALLBACK
        execution.artifacts = self._keeper.end(flight.desk, end_time, keep=keep, value_number=value_number)

    def _moves(self, flight: Flight, value: bytes) -> bool:
        """Not what the record must not hold, nor a step's: the tool that called it gets its value."""
        if len(value) <= self._inline_limit or flight.invocation.depth or flight.lender is not None:
            return False
        return flight.tool.keep_result and not flight.tool.has_secrets

    def _desk(self, flight: Flight) -> Desk:
        if self._keeper is None:
            raise ArtifactRefused(_NONE_KEPT)
        with self._lock:
            if flight.desk is None:
                if flight.execution.ended:
                    raise ArtifactRefused(_ENDED)
                flight.desk = self._keeper.desk(flight.execution.execution_id)
            return flight.desk


def known_of(execution: Execution) -> Known:
    """What an execution says of its artifacts to whoever looks for bytes that nobody needs."""
    return Known(execution.ended, execution.state is State.OUTCOME_UNKNOWN, execution.artifacts)
