"""The stores that leases and verdicts are kept in."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.databases import kept_in

from .servers import MemoryServers, Servers, SqlServers


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """Where it is kept; empty: in memory. Not asynchronous: making a database needs an event loop of its own."""
    yield from kept_in(request, tmp_path)


@pytest_asyncio.fixture
async def survivors(store_url: str, tmp_path: Path) -> AsyncGenerator[Servers]:
    """Every store, for several servers."""
    made: Servers = SqlServers(store_url, tmp_path) if store_url else MemoryServers()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def lone_servers(tmp_path: Path) -> AsyncGenerator[SqlServers]:
    """A SQLite file that belongs to one server at a time."""
    made = SqlServers(f"sqlite:///{tmp_path / 'toolwright.sqlite3'}", tmp_path, alone=True)
    yield made
    await made.close()
