"""The stores that limits are counted in."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from .counted import STORES, Counted


@pytest_asyncio.fixture(params=list(STORES))
async def counted(request: pytest.FixtureRequest) -> AsyncGenerator[Counted]:
    """Every LimitStore that there is."""
    async with STORES[request.param](request) as opened:
        yield opened
