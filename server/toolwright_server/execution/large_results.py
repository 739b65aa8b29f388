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
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.outcome import Outcome

_NONE_KEPT: Final = Failure(Reason.TOOL_FAILED, "this server keeps no artifacts")
_ENDED: Final = Failure(Reason.TOOL_FAILED, "the call has ended: it can have no more artifacts")


class LargeResults:
    """`inline_limit` in bytes of a value's JSON text. Without a keeper there are no artifacts."""

    def __init__(self, keeper: ArtifactKeeper | None, inline_limit: int) -> None:
        self._keeper = keeper
        self._inline_limit = inline_limit
        self._lock = threading.Lock()

    def drafts(self, flight: Flight) -> Drafts:
        """Where the tool begins its artifacts. From any thread. Raises ArtifactRefused."""
        owner = flight.lender or flight
        with self._lock:
            return owner.desk or self._opened(owner)

    def is_large(self, flight: Flight, value: bytes | None) -> bool:
        """Whether `kept` has anything to do."""
        return flight.desk is not None or (value is not None and len(value) > self._inline_limit)

    async def kept(self, flight: Flight, outcome: Outcome, end_time: float) -> bytes | None:
        """Describe the artifacts in the row; the value as far as it is answered inline."""
        keeper, value, number = self._keeper, outcome.result, 0
        if keeper is None:
            return value
        if value is not None and self._moves(flight, value):
            desk = flight.desk or self._opened(flight)
            # No room, and no harm: it is answered as it always was.
            number = await keeper.moved(desk, value)
        if flight.desk is not None:
            keep = outcome.state is State.SUCCEEDED
            flight.execution.artifacts = keeper.end(flight.desk, end_time, keep=keep, value_number=number)
        return None if number else value

    def recorded(self, flight: Flight) -> None:
        """The record has it: what is not described there may go."""
        if flight.desk is not None and self._keeper is not None:
            execution = flight.execution
            self._keeper.dismiss(execution.execution_id, flight.desk, execution.artifacts)

    def _moves(self, flight: Flight, value: bytes) -> bool:
        """Not what the record must not hold, nor a step's: the tool that called it gets its value."""
        if len(value) <= self._inline_limit or flight.invocation.depth or flight.lender is not None:
            return False
        return flight.tool.keep_result and not flight.tool.has_secrets

    def _opened(self, flight: Flight) -> Desk:
        if self._keeper is None:
            raise ArtifactRefused(_NONE_KEPT)
        if flight.execution.ended:
            raise ArtifactRefused(_ENDED)
        desk = flight.desk = self._keeper.desk(flight.execution.execution_id)
        return desk


def known_of(execution: Execution) -> Known:
    """What an execution says of its artifacts to whoever looks for bytes that nobody needs."""
    return Known(execution.ended, execution.state is State.OUTCOME_UNKNOWN, execution.artifacts)
