"""A circuit, in process and in a real Valkey, lets the same calls through as one that is told in the plainest way."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.circuits import POLICIES, STORIES, told_alike
from tests.shared_circuits import in_memory, in_server
from tests.valkeys import Server
from toolwright_server.catalog.model import CircuitPolicy
from toolwright_server.execution.circuits.machine import open_seconds
from toolwright_server.execution.circuits.model import Circuit

Story = list[tuple[Any, ...]]


@settings(max_examples=100, deadline=None)
@given(story=STORIES, about=POLICIES)
def test_in_process(story: Story, about: Circuit) -> None:
    async def live() -> None:
        async with in_memory() as kept:
            await told_alike(kept.told(), story, about, 1e-6)

    asyncio.run(live())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=STORIES, about=POLICIES)
def test_in_a_server_of_several(valkey: Server, story: Story, about: Circuit) -> None:
    async def live() -> None:
        valkey.run("FLUSHALL")
        async with in_server(valkey) as kept:
            # Its clock is a real one, and goes on meanwhile.
            await told_alike(kept.told(), story, about, 10.0)

    asyncio.run(live())


@pytest.mark.parametrize(("openings", "expected"), [(1, 5.0), (2, 10.0), (5, 80.0), (6, 120.0), (5_000, 120.0)])
def test_it_is_open_for_twice_as_long_each_time_up_to_the_most(openings: int, expected: float) -> None:
    assert open_seconds(CircuitPolicy(), openings) == expected


@settings(max_examples=100, deadline=None)
@given(first=st.floats(0.001, 1e4), factor=st.floats(1, 100), openings=st.integers(1, 10_000))
def test_it_is_never_open_for_longer_than_it_may_nor_for_less_than_at_first(
    first: float, factor: float, openings: int
) -> None:
    policy = CircuitPolicy(open_seconds=first, max_open_seconds=first * factor)
    assert first <= open_seconds(policy, openings) <= first * factor
