"""What the executor needs kept: a Protocol of six verbs, and the question that List asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.model import Execution, Stopped
from toolwright_server.identity import Caller


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """Which executions, newest first. `before` is the last id of the page before; `equal` maps a field to its value."""

    limit: int
    before: str = ""
    equal: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


# The fields that `ExecutionQuery.equal` may name.
QUERY_FIELDS = (
    "state",
    "tool",
    "user_id",
    "agent_id",
    "session_id",
    "task_id",
    "parent_execution_id",
    "request_id",
)


class RecordFailed(ToolwrightError):
    """What became of an execution that has ended could not be kept, neither in the store nor beside it."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            Reason.RECORD_FAILED,
            f"the outcome of {execution_id} could not be recorded",
            metadata={"execution_id": execution_id, "outcome": "unknown"},
        )


class ExecutionStore(Protocol):
    """Keeps executions. Reads answer only what belongs to the caller: its tenant and principal."""

    async def add(self, execution: Execution) -> None:
        """Keep a new execution, before its tool can be started."""
        ...

    async def settle(self, execution: Execution) -> None:
        """Keep the outcome of an execution that has ended."""
        ...

    async def correct(self, execution_id: str, stopped: Stopped) -> None:
        """Amend whether the work was seen to end, after the outcome was kept. Unknown ids are ignored."""
        ...

    async def get(self, caller: Caller, execution_id: str) -> Execution | None:
        """One execution as it is now."""
        ...

    async def find(self, caller: Caller, request_id: str) -> Execution | None:
        """The newest execution that has this request id."""
        ...

    async def list(self, caller: Caller, query: ExecutionQuery) -> Sequence[Execution]:
        """At most `query.limit` executions, newest first."""
        ...
