"""The stores of limits, each with the time that it sees. A further one is added to STORES, and the suite runs on it."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest

from tests.unit.limits.clock import Clock
from toolwright_server.limits.store import LimitStore
from toolwright_server.stores.memory.limits import MemoryLimitStore


class Counted(Protocol):
    """An empty store."""

    store: LimitStore

    async def passes(self, seconds: float) -> None:
        """Let so much time pass for the store; one that cannot be told what time it is waits."""
        ...


class InMemory:
    """Counted: on a clock that is told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store: LimitStore = MemoryLimitStore(self.clock, self.clock.wall)

    async def passes(self, seconds: float) -> None:
        self.clock.advance(seconds)


@asynccontextmanager
async def in_memory(request: pytest.FixtureRequest) -> AsyncGenerator[Counted]:
    yield InMemory()


# By name: opens the store for one test. What needs a server takes it from the request's fixtures.
STORES: Mapping[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Counted]]] = {"memory": in_memory}
