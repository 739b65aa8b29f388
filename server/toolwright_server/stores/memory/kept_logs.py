"""How long event logs outlive their executions where the rows are kept elsewhere: bounded by count, bytes and age."""

import time
from collections import deque
from collections.abc import Callable

from toolwright_server.execution.model import Execution
from toolwright_server.stores.memory.events import MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds


class KeptLogs:
    """Told of each execution that ends; forgets the oldest logs. An execution without a log costs nothing here."""

    def __init__(self, bounds: Bounds, logs: MemoryEventLogs, clock: Callable[[], float] = time.time) -> None:
        self._bounds = bounds
        self._logs = logs
        self._clock = clock
        # Id, when it ended, and the bytes of its log, in the order in which they ended.
        self._ended: deque[tuple[str, float, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, execution: Execution) -> None:
        """An execution has ended."""
        execution_id = execution.execution_id
        if self._logs.find(execution_id) is None:
            return
        size = self._logs.size_bytes(execution_id)
        self._ended.append((execution_id, execution.end_time or self._clock(), size))
        self._bytes += size
        self._evict()

    def _evict(self) -> None:
        oldest = self._clock() - self._bounds.age_seconds
        while self._ended:
            execution_id, ended, size = self._ended[0]
            if len(self._ended) <= self._bounds.count and self._bytes <= self._bounds.size_bytes and ended >= oldest:
                return
            self._ended.popleft()
            self._bytes -= size
            self._logs.forget(execution_id)
