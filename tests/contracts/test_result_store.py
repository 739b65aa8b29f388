"""What every ResultStore does: in memory, and in a real Valkey and Redis."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.valkeys import Server
from toolwright_server.execution.recall.key import Key
from toolwright_server.execution.recall.store import Kept, ResultStore
from toolwright_server.stores.memory.results import MemoryResultStore, ResultBounds
from toolwright_server.stores.redis.opening import open_result_store

pytestmark = pytest.mark.asyncio

PATIENT_MILLISECONDS = 10_000.0
KEPT = Kept(b'{"n":1}', 1_000.0, "0190-one", "ada")
OTHER = Kept('["\u00e4\\n\u2028"]\n'.encode(), 2_000.25, "0190-two", "bob\n")


@dataclass
class Shelf:
    """A store, and how much time it is made to believe has passed."""

    store: ResultStore
    age: Callable[[float], Awaitable[None]]


@pytest_asyncio.fixture(params=["memory", "valkey", "real_redis"])
async def shelf(request: pytest.FixtureRequest) -> AsyncGenerator[Shelf]:
    if request.param == "memory":
        now = [0.0]

        async def wait(seconds: float) -> None:
            now[0] += seconds

        yield Shelf(MemoryResultStore(ResultBounds(100, 1 << 20), lambda: now[0]), wait)
        return
    server: Server = request.getfixturevalue(request.param)
    server.run("FLUSHALL")
    store = await open_result_store(server.url, PATIENT_MILLISECONDS)

    async def age(seconds: float) -> None:
        # One after the other on one connection: what was put before is there.
        await store.get(key("nothing"))
        for name in server.run("KEYS", "tw:result:*"):
            server.run("PEXPIRE", name, max(0, round(server.run("PTTL", name) - seconds * 1_000)))

    try:
        yield Shelf(store, age)
    finally:
        await store.close()


def key(digest: str = "digest", tenant: str = "acme", principal: str = "key") -> Key:
    return Key(tenant, principal, digest.encode())


async def test_an_answer_comes_back_as_it_was(shelf: Shelf) -> None:
    shelf.store.put(key("a"), KEPT, 60)
    shelf.store.put(key("b"), OTHER, 60)
    assert await shelf.store.get(key("a")) == KEPT
    assert await shelf.store.get(key("b")) == OTHER


async def test_what_was_not_kept_is_not_there(shelf: Shelf) -> None:
    assert await shelf.store.get(key()) is None


@pytest.mark.parametrize("other", [key("other"), key(tenant="globex"), key(principal="another")], ids=str)
async def test_every_part_of_the_key_counts(shelf: Shelf, other: Key) -> None:
    shelf.store.put(key(), KEPT, 60)
    assert await shelf.store.get(other) is None


async def test_parts_do_not_run_into_each_other(shelf: Shelf) -> None:
    shelf.store.put(key(tenant="ac", principal="me"), KEPT, 60)
    assert await shelf.store.get(key(tenant="acm", principal="e")) is None


async def test_a_later_answer_takes_the_place_of_an_earlier_one(shelf: Shelf) -> None:
    shelf.store.put(key(), KEPT, 60)
    shelf.store.put(key(), OTHER, 60)
    assert await shelf.store.get(key()) == OTHER


async def test_an_answer_is_gone_after_its_time(shelf: Shelf) -> None:
    shelf.store.put(key("short"), KEPT, 60)
    shelf.store.put(key("long"), KEPT, 600)
    await shelf.age(30)
    assert await shelf.store.get(key("short")) == KEPT
    await shelf.age(31)
    assert await shelf.store.get(key("short")) is None
    assert await shelf.store.get(key("long")) == KEPT
