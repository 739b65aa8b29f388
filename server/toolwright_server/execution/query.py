"""Which executions a list asks for, and whether one is among them. Stores that keep rows elsewhere compile the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from toolwright_server.conditions import ALWAYS, LABELS, Condition, Value, matches
from toolwright_server.execution.model import Execution


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """At most `limit` executions for which `condition` holds, newest first, behind the id `before` (empty: from the
    newest one). The condition compares the fields of FIELDS and labels; states by name, times in seconds.
    """

    limit: int
    before: str = ""
    condition: Condition = ALWAYS


FIELDS: Final[Mapping[str, Callable[[Execution], Value]]] = {
    "state": lambda row: row.state.name,
    "tool": lambda row: row.tool,
    "category": lambda row: row.category,
    "user_id": lambda row: row.caller.user,
    "session_id": lambda row: row.session_id,
    "task_id": lambda row: row.task_id,
    "agent_id": lambda row: row.agent_id,
    "parent_execution_id": lambda row: row.parent_execution_id,
    "request_id": lambda row: row.request_id,
    "trace_id": lambda row: row.trace_id,
    "server_id": lambda row: row.server_id,
    "create_time": lambda row: row.create_time,
    "end_time": lambda row: row.end_time,
}
"""What a list can be filtered by, beside labels: how an execution answers it."""

TIMES: Final = ("create_time", "end_time")


def asked_for(query: ExecutionQuery, row: Execution) -> bool:
    """Whether the query asks for this execution, wherever its page begins and however much fits into it."""
    return (not query.before or row.execution_id < query.before) and matches(
        query.condition, lambda field: _value(row, field)
    )


def _value(row: Execution, field: str) -> Value:
    if field.startswith(LABELS):
        return row.labels.get(field.removeprefix(LABELS))
    return FIELDS[field](row)
