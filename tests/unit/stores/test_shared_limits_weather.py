"""A sample of what tests/torture/test_limit_store_faults.py does at length."""

import asyncio

import pytest

from tests.torture.limiting import PLACES, Fault, cut, frozen, killed, weather
from tests.valkeys import Server
from toolwright_server.limits.model import Fail

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", [killed, frozen, cut], ids=lambda fault: fault.__name__)
def test_a_store_that_fails_under_load_leaves_nothing_behind(own_valkey: Server, fault: Fault) -> None:
    tally = asyncio.run(weather(own_valkey, fault, Fail.CLOSED, faults=2, seed=4))
    assert tally.calls > 100
    assert fault is killed or tally.most_running <= PLACES
