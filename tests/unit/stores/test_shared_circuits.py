"""Circuits that several servers share: what one learns all know, and what each does when their store is gone."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from tests.circuits import ANSWERED, FAILED, LEASE, SLICE, circuit
from tests.shared_circuits import Kept, in_server
from tests.shared_limits import BRISK_MILLISECONDS, keys, until
from tests.valkeys import Server
from toolwright_server.execution.circuits.model import CircuitState
from toolwright_server.stores.redis.circuits import RedisCircuitStore

UPSTREAM = circuit()


@contextlib.asynccontextmanager
async def two(server: Server) -> AsyncGenerator[tuple[Kept, Kept]]:
    server.run("FLUSHALL")
    async with in_server(server) as one, in_server(server) as other:
        yield one, other


async def opened(kept: Kept) -> None:
    for entry in await kept.entered(UPSTREAM, "a", "b"):
        kept.store.record(entry, FAILED)
    await until(lambda: kept.store.standing(UPSTREAM).state is CircuitState.OPEN)


@pytest.mark.asyncio
async def test_servers_count_together_and_one_probe_is_let_through_for_all(valkey: Server) -> None:
    async with two(valkey) as (one, other):
        first, second = await one.store.enter(UPSTREAM, "a"), await other.store.enter(UPSTREAM, "b")
        one.store.record(first, FAILED)
        await until(lambda: "tw:{circuit:upstream}" in keys(valkey))
        other.store.record(second, FAILED)
        await until(lambda: len(other.changes) == 1)
        assert not (await one.store.enter(UPSTREAM, "c")).admitted
        await one.passes(2 * SLICE)
        await other.passes(0)
        entries = await asyncio.gather(
            *(
                kept.store.enter(UPSTREAM, f"{name}-{number}")
                for name, kept in (("x", one), ("y", other))
                for number in range(50)
            )
        )
        assert [entry.admitted for entry in entries].count(True) == 1
        # The one whose call made a change says so, and nobody else.
        assert sorted(change.state for change in (*one.changes, *other.changes)) == ["half_open", "open"]


@pytest.mark.asyncio
async def test_a_flood_of_calls_to_an_open_circuit_does_not_reach_the_store(valkey: Server) -> None:
    async with two(valkey) as (one, _):
        await opened(one)
        before = valkey.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
        assert not any(entry.admitted for entry in await one.entered(UPSTREAM, *(str(number) for number in range(500))))
        assert valkey.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"] - before < 50


@pytest.mark.asyncio
async def test_every_key_expires(valkey: Server) -> None:
    async with two(valkey) as (one, _):
        entry = await one.store.enter(UPSTREAM, "a")
        assert not keys(valkey)
        one.store.record(entry, FAILED)
        await until(lambda: bool(keys(valkey)))
        most = 1_000 * (LEASE + UPSTREAM.policy.max_open_seconds * 2 + UPSTREAM.policy.window_seconds) + 1_000
        assert all(0 < left <= most for left in keys(valkey).values())
        await opened(one)
        assert all(0 < left <= most for left in keys(valkey).values())


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_without_the_store_a_server_judges_by_itself_and_waits_for_nobody(own_valkey: Server, fault: str) -> None:
    async with in_server(own_valkey, BRISK_MILLISECONDS) as kept:
        assert (await kept.store.enter(UPSTREAM, "before")).admitted
        getattr(own_valkey, fault)()
        entries = [await asyncio.wait_for(kept.store.enter(UPSTREAM, name), 5) for name in "ab"]
        assert all(entry.is_local and entry.admitted for entry in entries)
        for entry in entries:
            kept.store.record(entry, FAILED)
        refused = await kept.store.enter(UPSTREAM, "c")
        assert (refused.state, refused.admitted, refused.is_local) == (CircuitState.OPEN, False, True)
        if fault == "freeze":
            own_valkey.thaw()
        else:
            own_valkey.start()
        await back(kept)
        # What was judged alone is over: the store had another opinion, or none.
        heard = await kept.store.enter(UPSTREAM, "d")
        while heard.is_local:  # On a busy machine it may be late once more.
            await back(kept)
            heard = await kept.store.enter(UPSTREAM, "d")
        assert heard.admitted


@pytest.mark.asyncio
async def test_a_server_whose_store_is_gone_goes_on_with_what_it_knew(own_valkey: Server) -> None:
    async with in_server(own_valkey, BRISK_MILLISECONDS) as kept:
        await opened(kept)
        await kept.passes(2 * SLICE)
        own_valkey.kill()
        # Another server may be trying it by now.
        waits = await kept.store.enter(UPSTREAM, "early")
        assert (waits.admitted, waits.state, waits.is_local) == (False, CircuitState.OPEN, True)
        assert waits.retry_seconds == pytest.approx(2 * SLICE, abs=5)
        kept.clock.ahead += 2 * SLICE
        probe, refused = await kept.entered(UPSTREAM, "probe", "another")
        assert (probe.is_local, probe.is_probe, refused.admitted) == (True, True, False)
        kept.store.record(probe, ANSWERED)
        assert (await kept.store.enter(UPSTREAM, "next")).admitted


@pytest.mark.asyncio
async def test_a_late_store_lets_nobody_through_a_circuit_that_was_not_closed_and_keeps_no_probe(
    own_valkey: Server,
) -> None:
    async with in_server(own_valkey, BRISK_MILLISECONDS) as kept:
        await opened(kept)
        await kept.passes(2 * SLICE)
        own_valkey.freeze()
        late = await kept.store.enter(UPSTREAM, "late")
        own_valkey.thaw()
        assert not late.admitted
        # It was let through as the probe after its caller had gone: it makes room again.
        await probing(kept)


@pytest.mark.asyncio
async def test_who_is_cancelled_while_it_waits_is_not_the_probe_for_ever(own_valkey: Server) -> None:
    async with in_server(own_valkey) as kept:
        await opened(kept)
        await kept.passes(2 * SLICE)
        own_valkey.freeze()
        waiting = asyncio.ensure_future(kept.store.enter(UPSTREAM, "left"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        own_valkey.thaw()
        await probing(kept)


def _link_is_up(kept: Kept) -> bool:
    assert isinstance(kept.store, RedisCircuitStore)
    return kept.store._link(b"any").is_up  # pyright: ignore[reportPrivateUsage]


async def probing(kept: Kept) -> None:
    """Somebody is let through as the probe, sooner than a lease could end."""
    end = asyncio.get_running_loop().time() + 10
    while not (await kept.store.enter(UPSTREAM, "next")).is_probe:
        assert asyncio.get_running_loop().time() < end


async def back(kept: Kept) -> None:
    await until(lambda: _link_is_up(kept))
