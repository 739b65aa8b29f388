import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.execution.deadline import Deadline, DeadlineSource, client_budget

PATIENCE = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def deadline(seconds: float, clock: Clock) -> Deadline:
    return Deadline(clock.now + seconds, DeadlineSource.TOOL, seconds, clock)


@given(st.permutations(list(DeadlineSource)), st.sets(st.sampled_from(DeadlineSource), max_size=4))
def test_the_shortest_limit_wins_and_names_its_source(order: list[DeadlineSource], absent: set[DeadlineSource]) -> None:
    limits = [(None if source in absent else rank + 1.0, source) for rank, source in enumerate(order)]
    first = next(limit for limit in limits if limit[0] is not None)
    for shuffled in itertools.islice(itertools.permutations(limits), 10):
        found = Deadline.shortest(50.0, *shuffled)
        assert (found.limit_seconds, found.source) == first
        assert found.at == 50.0 + found.limit_seconds


def test_of_two_equal_limits_the_first_is_named() -> None:
    limits = ((2.0, DeadlineSource.CLIENT), (2.0, DeadlineSource.TOOL))
    assert Deadline.shortest(0.0, *limits).source is DeadlineSource.CLIENT


@given(st.floats(min_value=0.0, max_value=1e6))
def test_the_client_budget_leaves_four_percent_and_twenty_milliseconds(remaining: float) -> None:
    assert client_budget(remaining) == pytest.approx(0.96 * remaining - 0.020)


def test_a_client_that_gives_less_than_the_margin_leaves_no_budget() -> None:
    assert client_budget(0.0) < 0
    assert client_budget(0.020) < 0
    assert client_budget(1.0) == pytest.approx(0.94)


def test_the_remaining_time_follows_the_clock_and_is_never_negative() -> None:
    clock = Clock()
    limit = deadline(10.0, clock)
    assert limit.remaining() == pytest.approx(10.0)
    clock.now += 4
    assert limit.remaining() == pytest.approx(6.0)
    clock.now += 40
    assert limit.remaining() == 0.0


def test_while_it_is_paused_the_remaining_time_stands_still_and_the_deadline_moves() -> None:
    clock = Clock()
    limit = deadline(10.0, clock)
    clock.now += 3
    limit.pause()
    clock.now += 60
    limit.pause()
    assert limit.remaining() == pytest.approx(7.0)
    limit.resume()
    assert limit.remaining() == pytest.approx(7.0)
    assert limit.at == pytest.approx(170.0)
    limit.resume()
    clock.now += 5
    assert limit.remaining() == pytest.approx(2.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(min_value=0.0, max_value=5.0)), max_size=20))
def test_only_the_time_in_which_it_ran_counts(steps: list[tuple[bool, float]]) -> None:
    clock = Clock()
    limit, ran = deadline(50.0, clock), 0.0
    for paused, seconds in steps:
        if paused:
            limit.pause()
        else:
            limit.resume()
            ran += seconds
        clock.now += seconds
    assert limit.remaining() == pytest.approx(max(0.0, 50.0 - ran), abs=1e-6)


@pytest.mark.asyncio
async def test_the_callback_comes_once_when_the_time_is_up() -> None:
    calls: list[str] = []
    up = asyncio.Event()
    limit = deadline(0.0, Clock())
    limit.arm(lambda: (calls.append("up"), up.set())[-1])
    await asyncio.wait_for(up.wait(), PATIENCE)
    limit.disarm()
    await the_loop_to_turn()
    assert calls == ["up"]


@pytest.mark.asyncio
async def test_a_disarmed_deadline_never_calls() -> None:
    calls: list[str] = []
    limit = deadline(0.0, Clock())
    limit.arm(lambda: calls.append("up"))
    limit.disarm()
    limit.pause()
    limit.resume()
    await the_loop_to_turn()
    assert calls == []


@pytest.mark.asyncio
async def test_a_paused_deadline_does_not_call_until_it_runs_again() -> None:
    calls: list[str] = []
    up = asyncio.Event()
    limit = deadline(0.0, Clock())
    limit.arm(lambda: (calls.append("up"), up.set())[-1])
    limit.pause()
    await the_loop_to_turn()
    assert calls == []
    limit.resume()
    await asyncio.wait_for(up.wait(), PATIENCE)
    assert calls == ["up"]


@pytest.mark.asyncio
async def test_armed_while_paused_it_waits_for_resume() -> None:
    up = asyncio.Event()
    limit = deadline(0.0, Clock())
    limit.pause()
    limit.arm(up.set)
    await the_loop_to_turn()
    assert not up.is_set()
    limit.resume()
    await asyncio.wait_for(up.wait(), PATIENCE)


async def the_loop_to_turn() -> None:
    """Long enough for a timer that was due at once to have called."""
    loop = asyncio.get_running_loop()
    for _ in range(3):
        later = loop.create_future()
        loop.call_later(0, later.set_result, None)
        await later
