"""The implementations that the contract suites are run against."""

from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.databases import kept_in
from toolwright_server.execution.store import ExecutionStore
from toolwright_server.records.ledger.store import LedgerStore
from toolwright_server.records.usage.store import UsageStore
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds, MemoryExecutionStore
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.ledger import SqlLedger
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.usage import SqlUsage
from toolwright_server.stores.sql.writer import Writer, WriterOptions

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
    # The credits that its executions are paid with.
    ledger: LedgerStore
    # The sums of what has ended.
    usage: UsageStore


# Makes an empty store; once in a test where it is kept in a database.
MakeStore = Callable[[], Kept]
# Makes a store bounded by count, bytes and age.
MakeMemoryStore = Callable[..., Kept]


@pytest.fixture
def make_memory_store(spill_folder: Path) -> MakeMemoryStore:
    """Every ExecutionStore that forgets by itself."""

    def memory(count: int = 1_000, size_bytes: int = PLENTY, age_seconds: float = YEAR) -> Kept:
        logs = MemoryEventLogs(LogBounds(PLENTY, PLENTY, spill_folder))
        store = MemoryExecutionStore(Bounds(count, size_bytes, age_seconds), logs, lambda: kept.now)
        kept = Kept(store, logs, now=2_000.0, ledger=store.ledger, usage=store.usage)
        return kept

    return memory


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Where a store keeps its rows; empty: in memory."""
    yield from kept_in(request, tmp_path)


@pytest_asyncio.fixture
async def make_store(
    store_url: str, tmp_path: Path, make_memory_store: MakeMemoryStore, spill_folder: Path
) -> AsyncGenerator[MakeStore]:
    """Every ExecutionStore that there is."""
    if not store_url:
        yield make_memory_store
        return
    options = DatabaseOptions(locate(store_url, tmp_path), timeout_seconds=30.0, synchronous="off")
    database = await Database.open(options)
    sink = SqliteSink if options.is_sqlite else PostgresSink
    writer = Writer(sink(options, clock=lambda: kept.now), WriterOptions(timeout_seconds=30.0))
    await writer.open()
    logs = MemoryEventLogs(LogBounds(PLENTY, PLENTY, spill_folder))
    ledger = SqlLedger(database, writer, audited=False, clock=lambda: kept.now)
    store = SqlExecutionStore(database, writer)
    kept = Kept(store, logs, now=2_000.0, ledger=ledger, usage=SqlUsage(database, writer))
    yield lambda: kept
    await writer.close()
    await database.close()
