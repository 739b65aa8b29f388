"""The shared store of limits for tests: opened over a real server, looked into, and aged as if time had passed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.valkeys import Server
from toolwright_server.limits.model import Check, Fail, Kind
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.stores.redis.limits import RedisLimitStore
from toolwright_server.stores.redis.opening import open_limit_store
from toolwright_server.stores.redis.options import RedisLimitOptions

DAY = 86_400 * 1_000_000
# Longer than any pause of a busy machine: tests about counting are not about time.
PATIENT_MILLISECONDS = 10_000.0
BRISK_MILLISECONDS = 50.0
LEASE_SECONDS = 30.0


def window(name: str = "w", limit: int = 3, seconds: float = 60.0, **given: Any) -> Check:
    return Check("rule-w", f"{{acme}}:{name}", Kind.WINDOW, limit, "somebody", seconds, **given)


def running(name: str = "r", limit: int = 3, **given: Any) -> Check:
    return Check("rule-r", f"{{acme}}:{name}", Kind.RUNNING, limit, "somebody", **given)


def quota(kind: Kind = Kind.DAY, name: str = "q", limit: int = 3, **given: Any) -> Check:
    return Check("rule-q", f"{{acme}}:{name}", kind, limit, "somebody", **given)


def failing(fail: Fail, limit: int = 3) -> tuple[Check, ...]:
    """A window and a place that fail in one way."""
    return window("w", limit, fail=fail), running("r", limit, fail=fail)


@dataclass
class Told:
    """What a store said of itself."""

    trips: list[float] = field(default_factory=list[float])
    decided: list[str] = field(default_factory=list[str])
    shown: dict[str, Callable[[], float]] = field(default_factory=dict[str, Callable[[], float]])

    def limit_store_round_trip(self, seconds: float) -> None:
        self.trips.append(seconds)

    def limit_store_decided(self, fail: str) -> None:
        self.decided.append(fail)

    def observe(self, name: str, callback: Callable[[], float]) -> None:
        self.shown[name] = callback


@contextlib.asynccontextmanager
async def opened(
    server: Server,
    *,
    name: str = "one",
    milliseconds: float = PATIENT_MILLISECONDS,
    lease_seconds: float = LEASE_SECONDS,
    told: Told | None = None,
) -> AsyncGenerator[RedisLimitStore]:
    """A store of one server, closed afterwards."""
    options = RedisLimitOptions(server.url, name, milliseconds, lease_seconds)
    store = await open_limit_store(options, MemoryLimitStore(), told)
    try:
        yield store
    finally:
        await store.close()


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait, bounded, for what happens in the background."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)


def keys(server: Server) -> dict[str, int]:
    """Every key that is kept, but for the set of servers, and the milliseconds until it expires (-1: never)."""
    client = server.client()
    with contextlib.closing(client):
        return {key.decode(): client.pttl(key) for key in client.scan_iter() if key != b"tw:{servers}"}


def age(server: Server, seconds: float) -> None:
    """Make everything that is kept older, as if so many seconds had passed. Leases and quotas go with it."""
    client = server.client()
    shift = round(seconds * 1_000_000)
    with contextlib.closing(client):
        for key in client.scan_iter():
            if key == b"tw:{servers}":
                continue
            kind = client.type(key)
            if kind == b"zset":
                for member in client.zrange(key, 0, -1):
                    client.zincrby(key, -shift, member)
            elif kind == b"hash":
                # Days only, and whole ones: it is no test's affair how near the next midnight is.
                client.hincrby(key, "period", -(shift // DAY))
            elif kind == b"string":
                taken, rest = client.get(key).split(b" ", 1)
                client.set(key, b"%d %b" % (int(taken) - shift, rest), keepttl=True)
