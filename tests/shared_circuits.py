"""Stores of circuits for tests, each with the time that it sees: in process, and in a real server.

What a server keeps is made older, as nobody can tell it what time it is.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.circuits import LEASE, SLICE, Told, circuit
from tests.shared_limits import PATIENT_MILLISECONDS
from tests.shared_limits import opened as opened_limits
from tests.valkeys import Server
from toolwright_server.execution.circuits.model import Change, Circuit
from toolwright_server.execution.circuits.store import CircuitStore
from toolwright_server.stores.memory.circuits import MemoryCircuitStore
from toolwright_server.stores.redis.opening import circuits_of

MICROSECONDS = 1_000_000
INSTANTS = ("until", "closed_at", "probe_until")


@dataclass
class Kept:
    """A store, what it said of changes, and how time passes for it."""

    store: CircuitStore
    passes: Callable[[float], Awaitable[None]]
    changes: list[Change]
    clock: "Clock"

    def told(self) -> Told:
        """The verbs of a story."""
        return Told(self.store.enter, self.store.record, self.store.renew, self.passes)

    async def entered(self, about: Circuit, *tokens: str) -> list[Any]:
        """One after the other."""
        return [await self.store.enter(about, token) for token in tokens]


class Clock:
    """Monotonic, and set forward by hand; `goes` false: it stands still in between."""

    def __init__(self, *, goes: bool) -> None:
        self.ahead = 0.0
        self._goes = goes

    def __call__(self) -> float:
        return self.ahead + (time.monotonic() if self._goes else 0.0)


@contextlib.asynccontextmanager
async def in_memory() -> AsyncGenerator[Kept]:
    """In process."""
    clock, changes = Clock(goes=False), list[Change]()

    async def passes(seconds: float) -> None:
        clock.ahead += seconds

    yield Kept(MemoryCircuitStore(changes.append, LEASE, clock), passes, changes, clock)


@contextlib.asynccontextmanager
async def in_server(server: Server, milliseconds: float = PATIENT_MILLISECONDS) -> AsyncGenerator[Kept]:
    """In a real server; it is not emptied."""
    clock, changes = Clock(goes=True), list[Change]()
    async with opened_limits(server, milliseconds=milliseconds) as limits:
        local = MemoryCircuitStore(changes.append, LEASE, clock)
        store = circuits_of(limits, local, changes.append, LEASE)
        store._clock = clock  # pyright: ignore[reportPrivateUsage]

        async def passes(seconds: float) -> None:
            await settled(store)
            clock.ahead += seconds
            age(server, seconds)

        yield Kept(store, passes, changes, clock)


async def settled(store: CircuitStore) -> None:
    """Everything that the store was told has arrived."""
    await store.enter(Circuit("another", circuit().policy), "somebody")


def age(server: Server, seconds: float) -> None:
    """Make the circuits that are kept older, by whole slices of a story's window."""
    slices, rest = divmod(seconds, SLICE)
    assert not rest, "a slice that is cut would be another one"
    client = server.client()
    with contextlib.closing(client):
        for key in client.scan_iter("tw:{circuit:*"):
            left, kept = client.pttl(key), {name.decode(): value for name, value in client.hgetall(key).items()}
            for name in INSTANTS:
                if name in kept:
                    client.hset(key, name, int(kept[name]) - round(seconds * MICROSECONDS))
            moved = {name: value for name, value in kept.items() if name.startswith("s:")}
            if moved:
                client.hdel(key, *moved)
                client.hset(key, mapping={f"s:{int(name[2:]) - int(slices)}": value for name, value in moved.items()})
            client.pexpire(key, left - round(seconds * 1_000))
