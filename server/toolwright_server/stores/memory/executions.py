"""Executions in memory, bounded by count, bytes and age. Those that still run are never evicted."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from toolwright_server.artifacts.model import Artifact
from toolwright_server.execution import charging
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery, asked_for
from toolwright_server.execution.store import CLAIM_SECONDS, gives_back
from toolwright_server.execution.usage import used
from toolwright_server.identity import Caller
from toolwright_server.stores.memory.events import MemoryEventLogs
from toolwright_server.stores.memory.ledger import MemoryLedger
from toolwright_server.stores.memory.usage import MemoryUsage

# What a row costs beside its arguments and result, measured with tracemalloc on CPython 3.11, rounded up.
ROW_BYTES = 2_048
# The same for one artifact beside its texts.
ARTIFACT_BYTES = 288
# Most rows that are evicted at once; small stores evict one by one.
BATCH = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    count: int
    size_bytes: int
    age_seconds: float


class MemoryExecutionStore:
    """An ExecutionStore in a dict. An evicted row takes its event log with it, and a log counts for its row.

    Beyond the count a batch is evicted at once, so that the many little things of a row are given back by warm code.
    """

    def __init__(
        self,
        bounds: Bounds,
        logs: MemoryEventLogs,
        clock: Callable[[], float] = time.time,
        *,
        credits_required: bool = False,
    ) -> None:
        self.ledger = MemoryLedger(clock, stands=self._stands)
        self.usage = MemoryUsage()
        self._credits_required = credits_required
        self._bounds = bounds
        self._logs = logs
        self._clock = clock
        self._batch = min(BATCH, bounds.count // BATCH)
        # By id in order of creation: ids grow, so this is also the order of List.
        self._rows: dict[str, Execution] = {}
        # Ended ones in the order in which they ended, which is the order of eviction; and what each counts for.
        self._ended: deque[Execution] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        # When the one that ended first has ended.
        self._oldest = 0.0
        self._requests: dict[tuple[str, str, str], str] = {}
        # Those that have a request id and gave it back.
        self._free: set[str] = set()

    @property
    def size_bytes(self) -> int:
        """What the ended rows count for."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._rows)

    async def add(self, execution: Execution, *, awaited: bool = True) -> Execution | None:
        del awaited
        if execution.request_id:
            holder = self._holder(execution)
            if holder is not None:
                return holder
        if execution.hold_micros:
            move = charging.hold(execution, required=self._credits_required)
            charging.held(execution, self.ledger.make(move))
        if execution.request_id:
            self._requests[_request_key(execution.caller, execution.request_id)] = execution.execution_id
        self._rows[execution.execution_id] = execution
        return None

    async def settle(self, execution: Execution, *, awaited: bool = True) -> None:
        del awaited
        if execution.hold_micros:
            for move in charging.settlements(execution):
                execution.balance_micros = self.ledger.make(move).balance_micros
        self.usage.count(used(execution))
        if execution.request_id and gives_back(execution):
            self._free.add(execution.execution_id)
        size = ROW_BYTES + len(execution.arguments or b"") + len(execution.result or b"")
        size += self._logs.size_bytes(execution.execution_id)
        if execution.failure is not None:
            size += sys.getsizeof(execution.failure.admin_message)
        if execution.artifacts:
            size += sum(map(_described, execution.artifacts))
        if execution.labels:
            size += sum(len(key) + len(value) for key, value in execution.labels.items())
        if not self._ended:
            self._oldest = execution.end_time or 0.0
        self._ended.append(execution)
        self._sizes.append(size)
        self._bytes += size
        if len(self._ended) > self._bounds.count:
            self._evict(self._bounds.count - self._batch)
        elif self._bytes > self._bounds.size_bytes or self._oldest < self._clock() - self._bounds.age_seconds:
            self._evict(self._bounds.count)

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
        rows = (row for row in reversed(self._rows.values()) if asked_for(query, row) and _owns(caller, row))
        return list(islice(rows, query.limit))

    def live(self, execution_id: str) -> Execution | None:
        """Whoever's it is."""
        return self._rows.get(execution_id)

    def _holder(self, execution: Execution) -> Execution | None:
        """Who holds the request id; None when the execution may have it."""
        key = _request_key(execution.caller, execution.request_id)
        held = self._requests.get(key)
        if held is not None and held not in self._free:
            holder = self._rows[held]
            if holder.create_time + CLAIM_SECONDS > self._clock():
                return holder
        return None

    def _stands(self, execution_id: str) -> bool | None:
        """Whether a hold of this execution may be open; None: its outcome is unknown, or forgotten as unknown."""
        row = self._rows.get(execution_id)
        if row is None or row.state is State.OUTCOME_UNKNOWN:
            return None
        return not row.ended

    def _evict(self, count: int) -> None:
        """Keep at most `count` ended ones, and none that is too much or too old."""
        oldest = self._clock() - self._bounds.age_seconds
        while self._ended:
            self._oldest = self._ended[0].end_time or 0.0
            if len(self._ended) <= count and self._bytes <= self._bounds.size_bytes and self._oldest >= oldest:
                return
            self._bytes -= self._sizes.popleft()
            self._drop(self._ended.popleft())

    def _drop(self, row: Execution) -> None:
        del self._rows[row.execution_id]
        if row.request_id:
            self._free.discard(row.execution_id)
            key = _request_key(row.caller, row.request_id)
            if self._requests.get(key) == row.execution_id:
                del self._requests[key]
        self._logs.forget(row.execution_id)


def _described(artifact: Artifact) -> int:
    texts = artifact.name, artifact.media_type, artifact.preview
    # A character takes one to four bytes: one of the rarest makes all of its text that wide.
    return ARTIFACT_BYTES + sum(map(sys.getsizeof, texts))


def _request_key(caller: Caller, request_id: str) -> tuple[str, str, str]:
    return caller.tenant, caller.principal, request_id


def _owns(caller: Caller, row: Execution) -> bool:
    return caller.shares_with(row.caller)
