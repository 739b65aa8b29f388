"""The implementations that the contract suites are run against."""

from collections.abc import Callable
from pathlib import Path

import pytest

from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs

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
