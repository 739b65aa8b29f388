"""Executions in memory, bounded by count, bytes and age. Those that still run are never evicted."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from toolwright_server.execution.model import Execution, Stopped
from toolwright_server.execution.store import ExecutionQuery
from toolwright_server.identity import Caller
from toolwright_server.stores.memory.events import MemoryEventLogs

# What a row costs beside its arguments and result, measured with tracemalloc on CPython 3.11, rounded up.
ROW_BYTES = 2_048


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    count: int
    size_bytes: int
    age_seconds: float


class MemoryExecutionStore:
    """An ExecutionStore in a dict. An evicted row takes its event log with it, and a log counts for its row."""

    def __init__(self, bounds: Bounds, logs: MemoryEventLogs, clock: Callable[[], float] = time.time) -> None:
        self._bounds = bounds
        self._logs = logs
        self._clock = clock
        # By id in order of creation: ids grow, so this is also the order of List.
        self._rows: OrderedDict[str, Execution] = OrderedDict()
        # Ended ones in the order in which they ended: the order of eviction. The value is what they count for.
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._requests: dict[tuple[str, str, str], str] = {}
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the ended rows count for."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._rows)

    async def add(self, execution: Execution) -> None:
        self._rows[execution.execution_id] = execution
        if execution.request_id:
            self._requests[_request_key(execution.caller, execution.request_id)] = execution.execution_id

    async def settle(self, execution: Execution) -> None:
        size = ROW_BYTES + len(execution.result or b"") + self._logs.size_bytes(execution.execution_id)
        if execution.labels:
            size += sum(len(key) + len(value) for key, value in execution.labels.items())
        self._ended[execution.execution_id] = size
        self._bytes += size
        self._evict()

    async def correct(self, execution_id: str, stopped: Stopped) -> None:
        row = self._rows.get(execution_id)
        if row is not None:
            row.stopped = stopped

    async def get(self, caller: Caller, execution_id: str) -> Execution | None:
        row = self._rows.get(execution_id)
        return row if row is not None and _owns(caller, row) else None

    async def find(self, caller: Caller, request_id: str) -> Execution | None:
        found = self._requests.get(_request_key(caller, request_id))
        return await self.get(caller, found) if found is not None else None

    async def list(self, caller: Caller, query: ExecutionQuery) -> Sequence[Execution]:
        rows = (
            row
            for row in reversed(self._rows.values())
            if (not query.before or row.execution_id < query.before) and _owns(caller, row) and _matches(row, query)
        )
        return list(islice(rows, query.limit))

    def _evict(self) -> None:
        oldest = self._clock() - self._bounds.age_seconds
        while self._ended:
            execution_id = next(iter(self._ended))
            row = self._rows[execution_id]
            if (
                len(self._ended) <= self._bounds.count
                and self._bytes <= self._bounds.size_bytes
                and (row.end_time or 0.0) >= oldest
            ):
                return
            self._drop(row)

    def _drop(self, row: Execution) -> None:
        self._bytes -= self._ended.pop(row.execution_id)
        del self._rows[row.execution_id]
        key = _request_key(row.caller, row.request_id)
        if self._requests.get(key) == row.execution_id:
            del self._requests[key]
        self._logs.forget(row.execution_id)


def _request_key(caller: Caller, request_id: str) -> tuple[str, str, str]:
    return caller.tenant, caller.principal, request_id


def _owns(caller: Caller, row: Execution) -> bool:
    return caller.shares_with(row.caller)


def _matches(row: Execution, query: ExecutionQuery) -> bool:
    return all(_field(row, name) == value for name, value in query.equal.items()) and all(
        row.labels.get(key) == value for key, value in query.labels.items()
    )


def _field(row: Execution, name: str) -> str:
    if name == "state":
        return row.state.name
    if name == "user_id":
        return row.caller.user
    value = getattr(row, name)
    assert isinstance(value, str), name
    return value
