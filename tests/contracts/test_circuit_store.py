"""What every CircuitStore must do, run in process and on a real Valkey."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.circuits import ANSWERED, FAILED, LEASE, NOTHING, SLICE, SLOW, circuit
from tests.shared_circuits import Kept, in_memory, in_server
from toolwright_server.execution.circuits.model import Circuit, CircuitState, Entry, Tally

UPSTREAM = circuit()


@pytest_asyncio.fixture(params=["memory", "valkey", "real_redis"])
async def kept(request: pytest.FixtureRequest) -> AsyncGenerator[Kept]:
    """Every store that there is, empty."""
    if request.param == "memory":
        async with in_memory() as opened:
            yield opened
        return
    server = request.getfixturevalue(request.param)
    server.run("FLUSHALL")
    async with in_server(server) as opened:
        yield opened


async def opened_by(kept: Kept, about: Circuit = UPSTREAM) -> None:
    """Two calls of two fail."""
    for entry in await kept.entered(about, "first", "second"):
        kept.store.record(entry, FAILED)


async def probe(kept: Kept, token: str, about: Circuit = UPSTREAM) -> Entry:
    """One that comes when the circuit is open no more."""
    await kept.passes(7 * SLICE)
    entry = await kept.store.enter(about, token)
    assert entry.is_probe, entry
    return entry


@pytest.mark.asyncio
async def test_a_circuit_opens_when_too_many_of_enough_calls_fail_and_says_when_to_come_back(kept: Kept) -> None:
    about = circuit(minimum_calls=4)
    entries = await kept.entered(about, *"abcd")
    for entry, report in zip(entries, [ANSWERED, FAILED, ANSWERED, FAILED], strict=True):
        assert (await kept.store.enter(about, "e")).admitted
        kept.store.record(entry, report)
    refused = await kept.store.enter(about, "f")
    assert (refused.state, refused.admitted) == (CircuitState.OPEN, False)
    assert refused.retry_seconds == pytest.approx(2 * SLICE, abs=5)
    assert kept.store.standing(about).state is CircuitState.OPEN
    (change,) = kept.changes
    assert (change.state, change.open_seconds, change.tally) == (CircuitState.OPEN, 2 * SLICE, Tally(4, 2, 0))


@pytest.mark.asyncio
async def test_calls_that_are_slow_open_it_too(kept: Kept) -> None:
    about = circuit(slow_call_seconds=1.0, slow_ratio=1.0)
    for entry in await kept.entered(about, "a", "b"):
        kept.store.record(entry, SLOW)
    assert not (await kept.store.enter(about, "c")).admitted
    assert kept.changes[-1].tally == Tally(2, 0, 2)


@pytest.mark.asyncio
async def test_failures_that_are_older_than_the_window_count_no_more(kept: Kept) -> None:
    entries = await kept.entered(UPSTREAM, "a", "b")
    kept.store.record(entries[0], FAILED)
    await kept.passes(10 * SLICE)
    kept.store.record(entries[1], FAILED)
    assert (await kept.store.enter(UPSTREAM, "c")).admitted


@pytest.mark.asyncio
async def test_of_many_that_come_at_once_to_a_half_open_circuit_exactly_one_is_let_through(kept: Kept) -> None:
    await opened_by(kept)
    await kept.passes(2 * SLICE)
    entries = await asyncio.gather(*(kept.store.enter(UPSTREAM, f"call-{number}") for number in range(200)))
    assert [entry.is_probe for entry in entries].count(True) == 1
    assert [entry.admitted for entry in entries].count(True) == 1
    assert {entry.state for entry in entries} == {CircuitState.HALF_OPEN}
    # It may ask again, as when the answer was lost.
    (probing,) = [entry for entry in entries if entry.is_probe]
    assert (await kept.store.enter(UPSTREAM, probing.token)).is_probe
    assert [change.state for change in kept.changes] == [CircuitState.OPEN, CircuitState.HALF_OPEN]


@pytest.mark.asyncio
async def test_a_probe_that_is_answered_closes_it_and_one_that_fails_opens_it_for_longer(kept: Kept) -> None:
    await opened_by(kept)
    for expected in (4 * SLICE, 7 * SLICE, 7 * SLICE):
        kept.store.record(await probe(kept, "probe"), FAILED)
        refused = await kept.store.enter(UPSTREAM, "late")
        assert refused.retry_seconds == pytest.approx(expected, abs=5)
    kept.store.record(await probe(kept, "probe"), ANSWERED)
    assert (await kept.store.enter(UPSTREAM, "next")).state is CircuitState.CLOSED
    # Soon after it has closed it is not trusted yet: it opens for as long as before.
    await opened_by(kept)
    assert (await kept.store.enter(UPSTREAM, "late")).retry_seconds == pytest.approx(7 * SLICE, abs=5)


@pytest.mark.asyncio
async def test_one_that_was_closed_for_a_whole_window_opens_for_a_short_time_again(kept: Kept) -> None:
    await opened_by(kept)
    kept.store.record(await probe(kept, "probe"), FAILED)
    kept.store.record(await probe(kept, "probe"), ANSWERED)
    await kept.passes(10 * SLICE)
    await opened_by(kept)
    assert (await kept.store.enter(UPSTREAM, "late")).retry_seconds == pytest.approx(2 * SLICE, abs=5)


@pytest.mark.asyncio
async def test_the_lease_of_a_probe_ends_unless_it_is_renewed(kept: Kept) -> None:
    await opened_by(kept)
    dead = await probe(kept, "dead")
    kept.store.renew(dead)
    await kept.passes(LEASE - SLICE)
    refused = await kept.store.enter(UPSTREAM, "early")
    assert (refused.admitted, refused.retry_seconds) == (False, pytest.approx(SLICE, abs=5))
    kept.store.renew(dead)
    await kept.passes(LEASE - SLICE)
    assert not (await kept.store.enter(UPSTREAM, "early")).admitted
    await kept.passes(SLICE)
    assert (await kept.store.enter(UPSTREAM, "next")).is_probe
    # What the first one has to say comes too late.
    kept.store.record(dead, ANSWERED)
    assert (await kept.store.enter(UPSTREAM, "another")).state is CircuitState.HALF_OPEN


@pytest.mark.asyncio
async def test_one_that_nobody_asked_for_for_long_lets_one_through_all_the_same(kept: Kept) -> None:
    await opened_by(kept)
    # Longer than all its times together; then also after its probe was never heard of again.
    for token in ("a", "b"):
        await kept.passes(50 * SLICE)
        first, second = await kept.entered(UPSTREAM, token, "another")
        assert (first.is_probe, second.admitted) == (True, False)
    assert kept.store.standing(UPSTREAM).state is CircuitState.HALF_OPEN


@pytest.mark.asyncio
async def test_a_probe_that_learned_nothing_makes_room_for_another_one(kept: Kept) -> None:
    await opened_by(kept)
    kept.store.record(await probe(kept, "left"), NOTHING)
    assert (await kept.store.enter(UPSTREAM, "next")).is_probe


@pytest.mark.asyncio
async def test_what_began_before_it_opened_says_nothing_of_what_came_after(kept: Kept) -> None:
    old = await kept.entered(UPSTREAM, "old", "older")
    await opened_by(kept)
    kept.store.record(await probe(kept, "probe"), ANSWERED)
    for entry in old:
        kept.store.record(entry, FAILED)
    assert (await kept.store.enter(UPSTREAM, "new")).state is CircuitState.CLOSED


@pytest.mark.asyncio
async def test_circuits_do_not_touch_each_other(kept: Kept) -> None:
    await opened_by(kept)
    assert (await kept.store.enter(Circuit("neighbour", UPSTREAM.policy), "a")).admitted
