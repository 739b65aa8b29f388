"""The stores of limits, each with the time that it sees. A further one is added to STORES, and the suite runs on it."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest

from tests.shared_limits import age, opened
from tests.unit.limits.clock import Clock
from tests.valkeys import Server
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


class InServer:
    """Counted: in a real server, whose clock nobody tells anything; what it keeps is made older instead."""

    def __init__(self, store: LimitStore, server: Server) -> None:
        self.store = store
        self._server = server

    async def passes(self, seconds: float) -> None:
        age(self._server, seconds)


def in_server(fixture: str) -> "Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Counted]]":
    """In the server that a fixture starts, emptied."""

    @asynccontextmanager
    async def in_it(request: pytest.FixtureRequest) -> AsyncGenerator[Counted]:
        server: Server = request.getfixturevalue(fixture)
        server.run("FLUSHALL")
        async with opened(server) as store:
            yield InServer(store, server)

    return in_it


# By name: opens the store for one test. What needs a server takes it from the request's fixtures.
STORES: Mapping[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Counted]]] = {
    "memory": in_memory,
    "valkey": in_server("valkey"),
    "redis": in_server("real_redis"),
}
