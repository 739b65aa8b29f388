"""What only a store that several servers share does. What every LimitStore does is in tests/contracts."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.shared_limits import (
    LEASE_SECONDS,
    PATIENT_MILLISECONDS,
    Told,
    age,
    keys,
    opened,
    quota,
    running,
    until,
    window,
)
from tests.valkeys import Server
from toolwright_server.limits.model import Check, Kind, Taking
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.asking import Timings
from toolwright_server.stores.redis.limits import RedisLimitStore
from toolwright_server.stores.redis.link import Link
from toolwright_server.stores.redis.opening import open_limit_store
from toolwright_server.stores.redis.options import RedisLimitOptions
from toolwright_server.stores.redis.servers import Servers
from toolwright_server.telemetry import Metrics

pytestmark = pytest.mark.asyncio

ALL = (window(), quota(), quota(Kind.MONTH, "m"), running())


@pytest.fixture(params=["valkey", "real_redis"])
def server(request: pytest.FixtureRequest) -> Server:
    """An empty one of each kind."""
    found: Server = request.getfixturevalue(request.param)
    found.run("FLUSHALL")
    return found


@pytest_asyncio.fixture
async def store(server: Server) -> AsyncGenerator[RedisLimitStore]:
    async with opened(server) as made:
        yield made


async def used(store: RedisLimitStore, *checks: Check) -> list[int]:
    return [reading.used for reading in await store.read(checks)]


async def test_servers_count_together(server: Server, store: RedisLimitStore) -> None:
    async with opened(server, name="two") as other:
        assert (await store.take(ALL, "a")).refused is None
        assert (await other.take(ALL, "b")).refused is None
        assert (await store.take(ALL, "c")).refused is None
        refused = (await other.take(ALL, "d")).refused
        assert refused is not None
        await other.release(ALL, "b")
        assert await used(other, *ALL) == [3, 3, 3, 2]
        await other.give_back(ALL, "b")
        await other.give_back(ALL, "a")
        assert await used(other, *ALL) == [2, 2, 2, 1]


async def test_exactly_the_limit_is_let_in_of_many_that_come_at_once_to_several_servers(server: Server) -> None:
    checks = (window(limit=50), quota(limit=70), running(limit=60))
    async with opened(server, name="one") as one, opened(server, name="two") as two:
        taken = await asyncio.gather(*((one, two)[n % 2].take(checks, f"t{n}") for n in range(400)))
        assert sum(taking.refused is None for taking in taken) == 50
        assert await used(one, *checks) == [50, 50, 50]
        refused = next(taking.refused for taking in taken if taking.refused is not None)
        assert refused.check == checks[0]
        assert 0 < refused.reset_seconds <= 60


async def test_a_burst_that_keeps_the_loop_busy_is_not_held_against_the_store(server: Server) -> None:
    checks = (window(limit=100),)

    async def arrive(token: str) -> Taking:
        # What a call costs before it asks: all of them together are many times what the store may take.
        await asyncio.sleep(0)
        began = time.perf_counter()
        while time.perf_counter() - began < 0.000_5:
            pass
        return await store.take(checks, token)

    async with opened(server, milliseconds=10) as store:
        for burst in range(4):
            taken = await asyncio.gather(*(arrive(f"{burst}-{n}") for n in range(150)))
            assert sum(taking.refused is None for taking in taken) == (0 if burst else 100)
        assert store.timeouts == 0
        assert store.is_up


async def test_every_key_expires_and_carries_the_tenant_in_braces(server: Server, store: RedisLimitStore) -> None:
    await store.take(ALL, "a")
    await store.take((window("w2"), quota(Kind.DAY, "q2", shadow=True)), "b")
    found = keys(server)
    assert found
    for key, milliseconds in found.items():
        assert key.startswith("tw:{acme}:")
        assert 0 < milliseconds <= 32 * 86_400 * 1_000
    assert found["tw:{acme}:w"] <= 60_001
    assert found["tw:{acme}:r"] <= LEASE_SECONDS * 1_000 + 1
    assert found["tw:{acme}:q"] <= 86_400 * 1_000


async def test_a_call_that_has_ended_leaves_no_mark(server: Server, store: RedisLimitStore) -> None:
    for n, end in enumerate((store.release, store.give_back)):
        await store.take(ALL, f"t{n}")
        assert f"tw:{{acme}}:call:t{n}" in keys(server)
        await end(ALL, f"t{n}")
        await store.read(ALL)
        assert f"tw:{{acme}}:call:t{n}" not in keys(server)


async def test_places_of_a_dead_server_are_free_when_their_leases_end(server: Server, store: RedisLimitStore) -> None:
    checks = (running(limit=2), window(limit=100))
    async with opened(server, name="dead") as dead:
        await dead.take(checks, "a")
        await dead.take(checks, "b")
        assert (await store.take(checks, "c")).refused is not None
    age(server, LEASE_SECONDS - 1)
    assert (await store.take(checks, "c")).refused is not None
    age(server, 1)
    assert (await store.take(checks, "c")).refused is None
    assert await used(store, *checks) == [1, 3]


async def test_renewed_places_are_held_on(server: Server, store: RedisLimitStore) -> None:
    checks = (running(limit=2), quota())
    await store.take(checks, "a")
    await store.take(checks, "b")
    for _ in range(3):
        age(server, LEASE_SECONDS - 1)
        await store.renew(checks, ["a"])
        assert await used(store, checks[0]) == [2 if _ == 0 else 1]
    assert (await store.take(checks, "a")).refused is None
    assert await used(store, *checks) == [1, 2]
    await store.give_back(checks, "a")
    assert await used(store, *checks) == [0, 1]


async def test_a_renewal_by_a_server_that_did_not_take_adds_no_place(server: Server, store: RedisLimitStore) -> None:
    await store.renew((running(),), ["somebody"])
    assert await used(store, running()) == [0]


async def test_places_come_back_after_the_store_has_lost_its_memory(server: Server, store: RedisLimitStore) -> None:
    calls = {"a": (running("r", 3), window()), "b": (running("r", 3), running("r2", 3))}
    for token, checks in calls.items():
        await store.take(checks, token)
    server.run("FLUSHALL")
    assert await used(store, running("r", 3), running("r2", 3)) == [0, 0]
    await store.renew(calls["a"], list(calls))
    assert await used(store, running("r", 3), running("r2", 3)) == [2, 1]
    await store.release(calls["b"], "b")
    assert await used(store, running("r", 3), running("r2", 3)) == [1, 0]


async def test_a_store_that_has_forgotten_the_scripts_is_taught_them_again(
    server: Server, store: RedisLimitStore
) -> None:
    await store.take(ALL, "a")
    server.run("SCRIPT", "FLUSH")
    takings = await asyncio.gather(store.take(ALL, "b"), store.take(ALL, "c"), store.take(ALL, "d"))
    assert sum(taking.refused is None for taking in takings) == 2
    assert await used(store, *ALL) == [3, 3, 3, 3]


async def test_a_call_that_gives_up_waiting_holds_nothing(server: Server, store: RedisLimitStore) -> None:
    tasks = [asyncio.create_task(store.take((running(limit=50), quota(limit=50)), f"t{n}")) for n in range(20)]
    # Each has asked by then, and none has its answer.
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [n % 2 == 0 for n in range(20)]
    assert await used(store, running(limit=50), quota(limit=50)) == [10, 10]


async def test_a_quota_goes_back_to_the_day_that_it_was_taken_from(server: Server) -> None:
    check = quota(limit=100)
    async with opened(server, lease_seconds=3 * 86_400) as store:
        await store.take((check,), "yesterday")
        age(server, 86_400)
        await store.take((check,), "today")
        await store.give_back((check,), "yesterday")
        assert await used(store, check) == [1]
        await store.give_back((check,), "today")
        assert await used(store, check) == [0]


async def test_giving_back_twice_takes_nothing_from_others(store: RedisLimitStore) -> None:
    await store.take(ALL, "a")
    await store.take(ALL, "b")
    await store.give_back(ALL, "a")
    await store.give_back(ALL, "a")
    await store.give_back(ALL, "never")
    assert await used(store, *ALL) == [1, 1, 1, 1]


async def test_calls_in_flight_share_round_trips(server: Server) -> None:
    told = Told()
    async with opened(server, told=told) as store:
        before = len(told.trips)
        await asyncio.gather(*(store.take((window(limit=10_000),), f"t{n}") for n in range(256)))
        assert len(told.trips) - before <= 4


async def test_how_the_store_is_can_be_seen_in_the_metrics(server: Server) -> None:
    metrics = Metrics()
    options = RedisLimitOptions(server.url, "one", PATIENT_MILLISECONDS, LEASE_SECONDS)
    store = await open_limit_store(options, MemoryLimitStore(), metrics)
    await store.take(ALL, "a")
    text = metrics.render()
    for line in ("store_up 1", "store_servers 1", "store_duration_seconds_count"):
        assert f"toolwright_limits_{line}" in text
    await store.close()
    assert "toolwright_limits_store_up 0" in metrics.render()


async def test_servers_know_how_many_they_are(server: Server) -> None:
    async with opened(server, name="one", lease_seconds=0.2) as one:
        assert one.servers == 1
        async with opened(server, name="two", lease_seconds=0.2):
            await until(lambda: one.servers == 2)
        # It has said that it leaves.
        await until(lambda: one.servers == 1)
        server.run("ZADD", "tw:{servers}", 2**52, "dead")
        await until(lambda: one.servers == 2)
        server.run("ZADD", "tw:{servers}", 1, "dead")
        await until(lambda: one.servers == 1)


async def test_a_key_that_holds_something_else_refuses_its_own_calls_only(
    server: Server, store: RedisLimitStore, caplog: pytest.LogCaptureFixture
) -> None:
    server.run("SET", "tw:{acme}:w", "something else")
    for n in range(3):
        taking = await store.take((window(),), f"t{n}")
        # Decided without the store, by the counter in process.
        assert taking.refused is None
    assert (await store.take((window("w2"),), "other")).refused is None
    assert store.is_up
    assert [record.message for record in caplog.records if "refuses" in record.message] == [
        f"the limit store at 127.0.0.1:{server.port} refuses commands: WRONGTYPE"
    ]


async def test_a_store_that_was_restarted_is_not_taken_for_one_that_nobody_shares(server: Server) -> None:
    server.run("FLUSHALL")
    link = Link(Address.parse(server.url), Timings.of(PATIENT_MILLISECONDS / 1_000), changed=lambda _up, _why: None)
    await link.settled()
    one, two = (Servers(lambda _key: link, name, 60.0) for name in ("one", "two"))
    await two.say()
    await one.say()
    assert one.count == 2
    server.run("FLUSHALL")
    # The other one has not said yet that it is there.
    await one.say()
    assert one.count == 2
    await one.say()
    await one.say()
    assert one.count == 1
    await link.close()


async def test_nor_is_one_that_was_restarted_again_and_again(own_valkey: Server) -> None:
    timings = Timings.of(PATIENT_MILLISECONDS / 1_000)
    link = Link(Address.parse(own_valkey.url), timings, changed=lambda _up, _why: None)
    await link.settled()
    one, two = (Servers(lambda _key: link, name, 60.0) for name in ("one", "two"))
    await two.say()
    await one.say()
    for _ in range(4):
        await asyncio.to_thread(own_valkey.kill)
        await asyncio.to_thread(own_valkey.start)
        # Each time before the other one.
        await one.say()
        assert own_valkey.run("ZCARD", "tw:{servers}") == 1
        assert one.count == 2
    await one.say()
    await one.say()
    assert one.count == 1
    await link.close()
