"""Answers in a store that several servers share: who has them, and what it costs when the store is not there."""

import time
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.shared_limits import until
from tests.valkeys import Server
from toolwright_server.execution.recall.key import Key
from toolwright_server.execution.recall.store import Kept
from toolwright_server.stores.redis.opening import open_result_store
from toolwright_server.stores.redis.results import RedisResultStore

pytestmark = pytest.mark.asyncio

KEY = Key("acme", "key", b"digest")
KEPT = Kept(b'{"n":1}', 1_000.0, "0190-one", "ada")
PATIENT_MILLISECONDS = 10_000.0


@pytest_asyncio.fixture
async def store(valkey: Server) -> AsyncGenerator[RedisResultStore]:
    valkey.run("FLUSHALL")
    made = await open_result_store(valkey.url, PATIENT_MILLISECONDS)
    yield made
    await made.close()


async def test_what_one_server_keeps_another_one_has(valkey: Server, store: RedisResultStore) -> None:
    other = await open_result_store(valkey.url, PATIENT_MILLISECONDS)
    store.put(KEY, KEPT, 60)
    # On its own connection the answer to this comes after it is kept.
    assert await store.get(KEY) == KEPT
    assert await other.get(KEY) == KEPT
    await other.close()


async def test_keys_say_nothing_and_expire(valkey: Server, store: RedisResultStore) -> None:
    store.put(KEY, KEPT, 60)
    await store.get(KEY)
    (name,) = valkey.run("KEYS", "tw:result:*")
    assert b"acme" not in name
    assert 59_000 < valkey.run("PTTL", name) <= 60_000


@pytest.mark.parametrize("written", [b"", b"x", b"\n1", b'[2,1.0,"a","b"]\n1', b'[1,"now","a","b"]\n1', b"[]\n1"])
async def test_what_another_release_wrote_is_nothing(valkey: Server, store: RedisResultStore, written: bytes) -> None:
    store.put(KEY, KEPT, 60)
    await store.get(KEY)
    (name,) = valkey.run("KEYS", "tw:result:*")
    valkey.run("SET", name, written)
    assert await store.get(KEY) is None


async def test_a_store_that_is_gone_has_nothing_and_is_used_again_when_it_is_back(own_valkey: Server) -> None:
    store = await open_result_store(own_valkey.url, 50.0)
    own_valkey.kill()
    # The first one finds out.
    assert await store.get(KEY) is None
    await until(lambda: not store.is_up)
    before = time.monotonic()
    store.put(KEY, KEPT, 60)
    assert await store.get(KEY) is None
    assert time.monotonic() - before < 1
    own_valkey.start()
    await until(lambda: store.is_up)
    # What could not be kept then is not kept now.
    assert await store.get(KEY) is None
    await store.close()


async def test_nobody_waits_for_a_store_that_stands_still(own_valkey: Server) -> None:
    store = await open_result_store(own_valkey.url, 50.0)
    own_valkey.freeze()
    before = time.monotonic()
    assert await store.get(KEY) is None
    assert time.monotonic() - before < 2
    own_valkey.thaw()
    await until(lambda: store.is_up)
    await store.close()


async def test_more_than_can_be_on_its_way_is_not_kept(valkey: Server, store: RedisResultStore) -> None:
    large = Kept(b"x" * (1 << 20), 1.0, "0190", "ada")
    for number in range(10):
        store.put(Key("acme", "key", b"%d" % number), large, 60)
    await store.get(KEY)
    assert len(valkey.run("KEYS", "tw:result:*")) == 3
    store.put(KEY, large, 60)
    assert await store.get(KEY) == large
