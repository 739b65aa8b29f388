"""What the executor needs kept: a Protocol of six verbs. What a list asks for is in query.py."""

from collections.abc import Sequence
from typing import Final, Protocol

from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import Caller

# How long a request id stays claimed.
CLAIM_SECONDS: Final = 86_400.0


class RecordFailed(ToolwrightError):
    """What became of an execution that has ended could not be kept, neither in the store nor beside it."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            Reason.RECORD_FAILED,
            f"the outcome of {execution_id} could not be recorded",
            metadata={"execution_id": execution_id, "outcome": "unknown"},
        )


class ExecutionStore(Protocol):
    """Keeps executions. Reads answer only what the caller may see."""

    async def add(self, execution: Execution, *, awaited: bool = True) -> Execution | None:
        """Keep a new execution, before its tool can be started; durably, unless not `awaited` (then it never waits).

        A request id is claimed in the same commit, which is awaited in any case: the execution that has it already is
        returned, and nothing was kept then. Raises STORE_UNAVAILABLE. Cancelled, it takes back what may have been kept.

        `hold_micros` are set aside in the same commit, which is awaited in any case, and counted for its task, of which
        all calls together may cost `task_limit_micros`: BUDGET_EXCEEDED or INSUFFICIENT_CREDITS is raised when there is
        too little, and nothing was kept then. A task near to its limit shows in `warnings`.
        """
        ...

    async def settle(self, execution: Execution, *, awaited: bool = True) -> None:
        """Keep the outcome of an execution that has ended; give its request id back if nothing was started.

        In the same commit what is held for it is charged or given back, see charging.py: `cost_micros` says how much,
        and `balance_micros` what is left, once it is kept. What has an unknown outcome stays held.

        Raises RecordFailed. Cancelling it cancels nothing.
        """
        ...

    async def correct(self, execution_id: str, stopped: Stopped) -> None:
        """Amend whether the work was seen to end, after the outcome was kept. Unknown ids are ignored."""
        ...

    async def get(self, caller: Caller, execution_id: str) -> Execution | None:
        """One execution as it is now."""
        ...

    async def find(self, caller: Caller, request_id: str) -> Execution | None:
        """The newest execution of this principal that has this request id."""
        ...

    async def list(self, caller: Caller, query: ExecutionQuery) -> Sequence[Execution]:
        """At most `query.limit` executions, newest first."""
        ...


def claims(execution: Execution, now: float) -> bool:
    """Whether it still has its request id: for a day, unless it gave it back."""
    return now < execution.create_time + CLAIM_SECONDS and not (execution.ended and gives_back(execution))


def gives_back(execution: Execution) -> bool:
    """Whether its end gives its request id back: nothing was started, so that trying again is right; or it was
    cancelled and doing it again does no harm, so that a caller whose connection was lost gets its answer after all.
    """
    if not execution.request_id:
        return False
    if execution.state is State.CANCELLED and execution.effect is not Effect.SIDE_EFFECT:
        return True
    failure = execution.failure
    return execution.state is State.REJECTED or (
        failure is not None and failure.metadata.get("outcome") == "not_started"
    )
