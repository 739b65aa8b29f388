"""The implementations that the contract suites are run against."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from toolwright_server.execution.store import ExecutionStore
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds, MemoryExecutionStore

PLENTY = 1 << 30
YEAR = 365 * 86_400.0

# Makes EventLogs that keep so many bytes in memory and so many on disk, per execution.
MakeLogs = Callable[[int, int], MemoryEventLogs]


@pytest.fixture
def spill_folder(tmp_path: Path) -> Path:
    return tmp_path / "spill"


@pytest.fixture(params=["memory"])
def make_logs(request: pytest.FixtureRequest, spill_folder: Path) -> MakeLogs:
    """Every EventLogs that there is."""

    def memory(memory_bytes: int, spill_bytes: int) -> MemoryEventLogs:
        return MemoryEventLogs(LogBounds(memory_bytes, spill_bytes, spill_folder))

    return {"memory": memory}[request.param]


@dataclass
class Kept:
    """A store with the logs that go with its rows, and the time that it sees (seconds since the epoch)."""

    store: ExecutionStore
    logs: MemoryEventLogs
    now: float


# Makes a store bounded by count, bytes and age.
MakeStore = Callable[..., Kept]


@pytest.fixture(params=["memory"])
def make_store(request: pytest.FixtureRequest, spill_folder: Path) -> MakeStore:
    """Every ExecutionStore that there is."""

    def memory(count: int = 1_000, size_bytes: int = PLENTY, age_seconds: float = YEAR) -> Kept:
        logs = MemoryEventLogs(LogBounds(PLENTY, PLENTY, spill_folder))
        store = MemoryExecutionStore(Bounds(count, size_bytes, age_seconds), logs, lambda: kept.now)
        kept = Kept(store, logs, now=2_000.0)
        return kept

    return {"memory": memory}[request.param]
