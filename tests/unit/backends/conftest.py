"""A process backend of two workers, its tools, and what it counted."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.unit.backends.rig import Tools, process_backend
from toolwright_server.backends.process import ProcessBackend

StartBackend = Callable[..., Awaitable[ProcessBackend]]


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


@pytest.fixture
def kills() -> list[str]:
    """Reasons of the kills so far."""
    return []


@pytest_asyncio.fixture
async def start(tools: Tools, kills: list[str]) -> AsyncGenerator[StartBackend]:
    """Starts a backend with other options; it is closed afterwards."""
    started: list[ProcessBackend] = []

    async def begin(**options: object) -> ProcessBackend:
        started.append(await process_backend(tools, kills, **options))
        return started[-1]

    yield begin
    for backend in started:
        await backend.close()


@pytest_asyncio.fixture
async def backend(start: StartBackend) -> ProcessBackend:
    return await start()
