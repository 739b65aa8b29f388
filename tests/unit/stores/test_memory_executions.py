"""What an ended row counts for in memory."""

import tracemalloc
from pathlib import Path

import pytest

from tests.contracts.executions import row
from toolwright_server.artifacts.model import Artifact
from toolwright_server.execution.model import Execution, State
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds, MemoryExecutionStore

pytestmark = pytest.mark.asyncio


def described(number: int, character: str) -> Artifact:
    """Each text is made for it alone, as in a server."""
    texts = (character * 200 + str(number), f"text/{number}-{character.encode().hex()}", f"{number:064x}")
    return Artifact(number, *texts[:2], number + 10**6, texts[2], character * 1_000 + str(number), number + 0.5)


@pytest.mark.parametrize("character", ["a", "\u20ac", "\U0001f600"], ids=["one byte", "two bytes", "four bytes"])
async def test_descriptions_of_artifacts_take_no_more_than_is_counted_for_them(tmp_path: Path, character: str) -> None:
    store = MemoryExecutionStore(Bounds(10, 1 << 30, 1.0), MemoryEventLogs(LogBounds(1_000, 0, tmp_path)), float)

    async def counted(execution: Execution) -> int:
        before = store.size_bytes
        await store.add(execution)
        execution.move(State.RUNNING)
        execution.move(State.SUCCEEDED)
        await store.settle(execution)
        return store.size_bytes - before

    without = await counted(row("a"))
    tracemalloc.start()
    try:
        artifacts = tuple(described(number, character) for number in range(1, 101))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    execution = row("b")
    execution.artifacts = artifacts
    assert taken <= await counted(execution) - without <= 1.2 * taken
