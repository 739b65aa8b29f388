from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from .house import House


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """An executor, stopped after the test; tools are added in the test."""
    made = House(tmp_path)
    yield made
    await made.close()
