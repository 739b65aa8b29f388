"""Circuits that several servers share: what one learns all know, and what each does when their store is gone."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from tests.circuits import ANSWERED, FAILED, LEASE, SLICE, circuit
from tests.shared_circuits import Kept, age, in_server, settled
from tests.shared_limits import BRISK_MILLISECONDS, keys, until
from tests.valkeys import Server
from toolwright_server.execution.circuits.model import CircuitState
from toolwright_server.stores.redis.circuits import RedisCircuitStore
from toolwright_server.stores.redis.link import Link

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
        times = LEASE + UPSTREAM.policy.max_open_seconds * 2 + UPSTREAM.policy.window_seconds
        most = 1_000 * (times + 86_400) + 1_000
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
async def test_calls_begun_without_the_store_say_nothing_when_it_is_back(own_valkey: Server) -> None:
    async with in_server(own_valkey, BRISK_MILLISECONDS) as kept:
        own_valkey.kill()
        await until(lambda: not link(kept).is_up)
        entries = await kept.entered(UPSTREAM, "a", "b", "c")
        assert all(entry.is_local and entry.admitted for entry in entries)
        own_valkey.start()
        await back(kept)
        while (await kept.store.enter(UPSTREAM, "d")).is_local:  # On a busy machine it may be late.
            await back(kept)
        for entry in entries:
            kept.store.renew(entry)
            kept.store.record(entry, FAILED)
        assert not kept.changes
        assert (await kept.store.enter(UPSTREAM, "e")).admitted


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


@pytest.mark.asyncio
async def test_a_report_that_may_have_arrived_over_a_connection_that_broke_counts_once(own_valkey: Server) -> None:
    about = circuit(minimum_calls=5)
    async with in_server(own_valkey, BRISK_MILLISECONDS) as kept:
        entries = await kept.entered(about, "a", "b")
        own_valkey.freeze()
        for entry in entries:
            kept.store.record(entry, FAILED)
        # The connection is given up; what was sent over it is done when the store goes on.
        await until(lambda: link(kept).connections > 1)
        own_valkey.thaw()
        await back(kept)
        # What would be sent again is sent before this.
        await kept.store.enter(about, "c")
        assert counted(own_valkey)[0] <= 2


@pytest.mark.asyncio
async def test_calls_of_times_that_are_still_to_come_do_not_count(valkey: Server) -> None:
    short, long = circuit(minimum_calls=2), circuit(minimum_calls=2, window_seconds=100 * SLICE)
    for later, back_seconds in ((long, 0), (short, 20 * SLICE)):
        async with two(valkey) as (one, other):
            first, second = await one.entered(short, "a", "b")
            one.store.record(first, FAILED)
            await until(lambda: counted(valkey) == (1, 1, 0))
            # A release has made the window longer, by which slices have other numbers; or the store's clock went back.
            age(valkey, -back_seconds)
            other.store.record(replace(second, circuit=later), FAILED)
            await settled(other.store)
            assert counted(valkey) == (1, 1, 0)
            assert not other.changes


@pytest.mark.asyncio
async def test_a_circuit_whose_store_went_back_in_time_is_open_for_no_longer_than_the_most(valkey: Server) -> None:
    async with two(valkey) as (one, other):
        await opened(one)
        age(valkey, -100 * SLICE)
        refused = await other.store.enter(UPSTREAM, "c")
        assert (refused.state, refused.retry_seconds) == (CircuitState.OPEN, pytest.approx(7 * SLICE, abs=5))
        await other.passes(7 * SLICE)
        assert (await other.store.enter(UPSTREAM, "probe")).is_probe
        # So is its probe: another one is let through after a lease.
        age(valkey, -100 * SLICE)
        refused = await other.store.enter(UPSTREAM, "d")
        assert (refused.state, refused.retry_seconds) == (CircuitState.HALF_OPEN, pytest.approx(LEASE, abs=5))
        await other.passes(LEASE)
        assert (await other.store.enter(UPSTREAM, "next")).is_probe


@pytest.mark.asyncio
async def test_a_circuit_that_closed_in_a_time_still_to_come_is_trusted_again_after_a_window(valkey: Server) -> None:
    async with two(valkey) as (one, _):
        await opened(one)
        await one.passes(2 * SLICE)
        one.store.record((await one.entered(UPSTREAM, "probe"))[0], ANSWERED)
        await one.entered(UPSTREAM, "after")
        age(valkey, -100 * SLICE)
        one.store.record((await one.entered(UPSTREAM, "c"))[0], ANSWERED)
        await one.passes(10 * SLICE)
        await opened(one)
        assert one.store.standing(UPSTREAM).retry_seconds == pytest.approx(2 * SLICE, abs=5)


def counted(server: Server) -> tuple[int, ...]:
    """Calls, failures and slow ones in the window of the one circuit that there is."""
    slices = [value.split() for name, value in fields(server).items() if name.startswith("s:")]
    return tuple(sum(int(each[at]) for each in slices) for at in range(3))


def fields(server: Server) -> dict[str, str]:
    """What is kept of the circuit."""
    client = server.client()
    with contextlib.closing(client):
        found = client.hgetall("tw:{circuit:upstream}")
    return {name.decode(): value.decode() for name, value in found.items()}


def link(kept: Kept) -> Link:
    assert isinstance(kept.store, RedisCircuitStore)
    return kept.store._link(b"any")  # pyright: ignore[reportPrivateUsage]


async def probing(kept: Kept) -> None:
    """Somebody is let through as the probe, sooner than a lease could end."""
    end = asyncio.get_running_loop().time() + 10
    while not (await kept.store.enter(UPSTREAM, "next")).is_probe:
        assert asyncio.get_running_loop().time() < end


async def back(kept: Kept) -> None:
    await until(lambda: link(kept).is_up)
