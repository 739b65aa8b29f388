"""The shared store is stopped, frozen and started again: each `fail` does what it says, and nobody hangs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence

import pytest

from tests.shared_limits import (
    BRISK_MILLISECONDS,
    Told,
    failing,
    opened,
    quota,
    running,
    until,
    window,
)
from tests.valkeys import Server
from toolwright_server.limits.model import Check, Fail, Kind, Taking
from toolwright_server.stores.redis.limits import RedisLimitStore

pytestmark = pytest.mark.asyncio

# A hang is what takes longer than this; no timing is asserted below it.
HANG_SECONDS = 10.0
GONE = ["killed", "frozen"]


@contextlib.asynccontextmanager
async def outage(server: Server, how: str, *, told: Told | None = None) -> AsyncGenerator[RedisLimitStore]:
    """A store whose server has just gone; it comes back at the end, before the store is closed."""
    async with opened(server, milliseconds=BRISK_MILLISECONDS, told=told) as store:
        await store.take((window("before"),), "before")
        begin(server, how)
        yield store
        end(server, how)
        await until(lambda: store.is_up)


def begin(server: Server, how: str) -> None:
    if how == "killed":
        server.kill()
    else:
        server.freeze()


def end(server: Server, how: str) -> None:
    if how == "killed":
        server.start()
    else:
        server.thaw()


async def taken(store: RedisLimitStore, checks: Sequence[Check], *tokens: str) -> list[Taking]:
    async with asyncio.timeout(HANG_SECONDS):
        return list(await asyncio.gather(*(store.take(checks, token) for token in tokens)))


@pytest.mark.parametrize("how", GONE)
async def test_an_open_rule_lets_everybody_in(own_valkey: Server, how: str) -> None:
    async with outage(own_valkey, how) as store:
        takings = await taken(store, failing(Fail.OPEN), *(f"t{n}" for n in range(50)))
        assert [taking.refused for taking in takings] == [None] * 50
        assert {reading.used for taking in takings for reading in taking.readings} == {0}


@pytest.mark.parametrize("how", GONE)
async def test_a_closed_rule_lets_nobody_in_and_says_when_to_come_again(own_valkey: Server, how: str) -> None:
    checks = (window(fail=Fail.LOCAL), quota(fail=Fail.CLOSED), running(fail=Fail.OPEN))
    async with outage(own_valkey, how) as store:
        for taking in await taken(store, checks, *(f"t{n}" for n in range(50))):
            assert taking.unavailable
            assert taking.refused is not None
            assert taking.refused.check == checks[1]
            assert taking.refused.reset_seconds > 0
        # What was refused was counted nowhere.
        assert [reading.used for reading in (await taken(store, checks[:1], "other"))[0].readings] == [1]


@pytest.mark.parametrize("how", GONE)
async def test_a_local_rule_counts_its_share_in_process(own_valkey: Server, how: str) -> None:
    checks = failing(Fail.LOCAL, limit=10)
    async with opened(own_valkey, name="two"), opened(own_valkey, name="three"), outage(own_valkey, how) as store:
        assert store.servers == 3
        takings = await taken(store, checks, *(f"t{n}" for n in range(50)))
        assert sum(taking.refused is None for taking in takings) == 4
        refused = next(taking.refused for taking in takings if taking.refused is not None)
        assert (refused.check.rule, refused.check.limit) == ("rule-w", 4)
        assert not any(taking.unavailable for taking in takings)


async def test_a_share_is_never_nothing(own_valkey: Server) -> None:
    checks = (running(limit=1),)
    async with opened(own_valkey, name="two"), outage(own_valkey, "killed") as store:
        takings = await taken(store, checks, "a", "b")
        assert [taking.refused is None for taking in takings] == [True, False]
        await store.release(checks, "a")
        assert (await taken(store, checks, "b"))[0].refused is None


async def test_a_rule_in_shadow_refuses_nobody_whatever_it_says(own_valkey: Server) -> None:
    checks = (window(fail=Fail.CLOSED, shadow=True), running(limit=1, fail=Fail.LOCAL, shadow=True))
    async with outage(own_valkey, "killed") as store:
        takings = await taken(store, checks, "a", "b")
        assert [taking.refused for taking in takings] == [None, None]
        assert [len(taking.over) for taking in takings] == [0, 1]


@pytest.mark.parametrize("how", GONE)
async def test_a_call_that_holds_its_places_is_let_in_again_though_the_store_is_gone(
    own_valkey: Server, how: str
) -> None:
    checks = failing(Fail.CLOSED)
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        assert (await store.take(checks, "held")).refused is None
        begin(own_valkey, how)
        taking, other = await taken(store, checks, "held", "other")
        assert taking.refused is None
        assert other.unavailable
        end(own_valkey, how)


@pytest.mark.parametrize("how", GONE)
async def test_a_store_that_is_gone_is_asked_by_nobody_and_comes_back_by_itself(
    own_valkey: Server, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    checks = failing(Fail.OPEN, limit=1_000)
    with caplog.at_level("INFO"):
        async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS, told=told) as store:
            begin(own_valkey, how)
            n = 0
            while store.is_up:
                await taken(store, checks, f"t{n}")
                n += 1
            timeouts, trips = store.timeouts, len(told.trips)
            await taken(store, checks, *(f"down{m}" for m in range(200)))
            assert (store.timeouts, len(told.trips)) == (timeouts, trips)
            assert told.decided == ["open"] * (n + 200)
            end(own_valkey, how)
            await until(lambda: store.is_up)
            taking = (await taken(store, checks, "back"))[0]
            assert [reading.used for reading in taking.readings] == [1, 1]
    said = [record.message for record in caplog.records if "limit store" in record.message]
    assert ["does not answer" in line for line in said] == [False, True, False]
    assert all(f"127.0.0.1:{own_valkey.port}" in line for line in said)


async def test_what_was_taken_too_late_is_given_back(own_valkey: Server) -> None:
    checks = (window(limit=100), quota(limit=100), quota(Kind.MONTH, "m", limit=100), running(limit=100))
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        own_valkey.freeze()
        takings = await taken(store, checks, *(f"t{n}" for n in range(50)))
        assert store.timeouts
        assert all(taking.refused is None for taking in takings)
        own_valkey.thaw()
        await until(lambda: store.is_up)
        await until_counted(store, checks, [0, 0, 0, 0])


async def test_what_a_broken_connection_left_in_doubt_is_given_back(own_valkey: Server) -> None:
    """The server reads what it was sent only after the connection was given up: it must not do it any more."""
    checks = (window(limit=100), quota(limit=100), running(limit=100))
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        own_valkey.freeze()
        await taken(store, checks, *(f"t{n}" for n in range(50)))
        await until(lambda: not store.is_up, seconds=HANG_SECONDS)
        before = store.connections
        await until(lambda: store.connections > before, seconds=HANG_SECONDS)
        own_valkey.thaw()
        await until(lambda: store.is_up)
        await until_counted(store, checks, [0, 0, 0])


async def test_what_was_released_in_the_meantime_is_free_when_the_store_is_back(own_valkey: Server) -> None:
    checks = (running(limit=100), window(limit=100))
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        for n in range(20):
            await store.take(checks, f"t{n}")
        own_valkey.freeze()
        while store.is_up:
            await taken(store, checks, "probe")
        for n in range(15):
            await store.release(checks, f"t{n}")
        await store.give_back(checks, "t15")
        own_valkey.thaw()
        await until(lambda: store.is_up)
        await until_counted(store, checks, [4, 19])


async def test_a_server_that_is_replaced_at_once_costs_nobody_a_refusal(own_valkey: Server) -> None:
    checks = failing(Fail.CLOSED, limit=1_000)
    async with opened(own_valkey) as store:
        assert (await store.take(checks, "a")).refused is None
        own_valkey.kill()
        own_valkey.start()
        # The first one finds the connection broken, and asks again over the next one.
        assert (await taken(store, checks, "b"))[0].refused is None
        assert [reading.used for reading in await store.read(checks)] == [1, 1]


async def test_a_store_that_is_not_there_at_first_is_found_later(own_valkey: Server) -> None:
    own_valkey.kill()
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        assert not store.is_up
        assert (await taken(store, failing(Fail.CLOSED), "a"))[0].unavailable
        own_valkey.start()
        await until(lambda: store.is_up)
        assert (await taken(store, failing(Fail.CLOSED), "a"))[0].refused is None


async def test_a_replica_that_may_not_write_is_no_store(own_valkey: Server) -> None:
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        own_valkey.run("REPLICAOF", "127.0.0.1", "1")
        taking = (await taken(store, failing(Fail.CLOSED), "a"))[0]
        assert taking.unavailable
        assert not store.is_up
        own_valkey.run("REPLICAOF", "NO", "ONE")
        await until(lambda: store.is_up)
        assert (await taken(store, failing(Fail.CLOSED), "a"))[0].refused is None


async def test_a_store_without_memory_for_more_is_no_store(own_valkey: Server) -> None:
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        own_valkey.run("CONFIG", "SET", "maxmemory", "1")
        assert (await taken(store, failing(Fail.CLOSED), "a"))[0].unavailable
        assert not store.is_up
        own_valkey.run("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: store.is_up)


async def test_closing_does_not_wait_for_a_frozen_store(own_valkey: Server) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
            own_valkey.freeze()
            waiting = asyncio.create_task(store.take(failing(Fail.OPEN), "a"))
            await asyncio.sleep(0)
        assert (await waiting).refused is None


async def until_counted(store: RedisLimitStore, checks: Sequence[Check], wanted: list[int]) -> None:
    """Undoing goes on in the background; nothing else takes meanwhile."""
    end = time.monotonic() + HANG_SECONDS
    while (found := [reading.used for reading in await store.read(checks)]) != wanted:
        assert time.monotonic() < end, f"{found} are counted, not {wanted}"
