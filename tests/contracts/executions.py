"""Executions for tests of stores: made, added, settled and listed in one line each."""

from collections.abc import Mapping, Sequence
from typing import Any

from toolwright_server.conditions import All, Comparison, Relation
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import Caller

from .conftest import Kept

OWNER = Caller("acme", "key-1", "ann", acts_for=frozenset({"bob"}))


def row(execution_id: str, **facts: Any) -> Execution:
    """A new execution; `facts` are its other fields."""
    defaults: dict[str, Any] = {
        "caller": OWNER,
        "tool": "tests.work",
        "tool_version": "1",
        "digest": b"\x00\xff",
        "server_id": "server",
        "epoch": 1,
        "trace_id": "0" * 32,
        "create_time": 1_000.0,
        "deadline_time": 1_030.0,
        "deadline_source": DeadlineSource.SERVER,
        "as_json": True,
        "task_id": execution_id,
        "parent_execution_id": "",
        "request_id": "",
        "session_id": "",
        "agent_id": "",
        "labels": {},
        "arguments_bytes": 2,
    }
    return Execution(execution_id=execution_id, **{**defaults, **facts})


async def added(kept: Kept, *execution_ids: str, **facts: Any) -> list[Execution]:
    rows = [row(execution_id, **facts) for execution_id in execution_ids]
    for each in rows:
        await kept.store.add(each)
    return rows


async def settled(kept: Kept, execution: Execution, *, at: float = 1_001.0, result: bytes = b"null") -> None:
    execution.move(State.RUNNING)
    execution.move(State.SUCCEEDED)
    execution.result = result
    execution.end_time = at
    execution.stopped = Stopped.YES
    await kept.store.settle(execution)


async def refused(kept: Kept, execution: Execution) -> None:
    """Settle an execution that was never started: its request id is free again."""
    execution.move(State.REJECTED)
    execution.failure = Failure(Reason.UPSTREAM_UNAVAILABLE, "gone", metadata={"outcome": "not_started"})
    execution.end_time = 1_001.0
    await kept.store.settle(execution)


async def listed(
    kept: Kept,
    *,
    caller: Caller = OWNER,
    limit: int = 100,
    before: str = "",
    equal: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[str]:
    """Ids, newest first."""
    wanted = {**(equal or {}), **{f"labels.{key}": value for key, value in (labels or {}).items()}}
    condition = All(tuple(Comparison(field, Relation.EQUAL, value) for field, value in wanted.items()))
    found = await kept.store.list(caller, ExecutionQuery(limit, before, condition))
    return [execution.execution_id for execution in found]


async def there(kept: Kept, execution_ids: Sequence[str]) -> list[str]:
    return [each for each in execution_ids if await kept.store.get(OWNER, each) is not None]
