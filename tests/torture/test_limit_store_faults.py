"""The shared store of limits fails under load and comes back, again and again: nobody hangs, and nothing is held."""

import asyncio
import os

import pytest

from tests.valkeys import Server
from toolwright_server.limits.model import Fail

from .limiting import FAULTS, MILLISECONDS, PLACES, Fault, cut, frozen, killed, weather

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
ROUNDS = max(2, round(20 * SCALE))
SEED = 20_261_128


@pytest.mark.parametrize("fail", list(Fail))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_store_that_fails_again_and_again(own_valkey: Server, fault: Fault, fail: Fail) -> None:
    tally = asyncio.run(weather(own_valkey, fault, fail, faults=ROUNDS, seed=SEED))
    print(f"\n{tally.text()}")  # noqa: T201 (read with `pytest -s`)
    assert tally.calls > 100 * ROUNDS
    # Nobody waited longer than is allowed, but for what the loop itself took to get round to it.
    assert tally.longest_seconds < MILLISECONDS / 1_000 + 10 * tally.lag_seconds
    if fail is Fail.CLOSED and fault is not killed:
        # A store that forgets nothing is exact through all of it.
        assert tally.most_running <= PLACES
    if fail is Fail.CLOSED and fault is not cut:
        assert tally.unavailable
    if fail is not Fail.CLOSED:
        assert not tally.unavailable
    assert fault is not frozen or tally.refused
