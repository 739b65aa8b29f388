"""When a refused caller is told to come back, as docs/circuits.md has it."""

import pytest

from tests.circuits import circuit
from tests.unit.catalog.setting import made
from toolwright_server.execution.circuits.model import CircuitState, Entry
from toolwright_server.execution.circuits.refusal import refused


async def nothing() -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    ("state", "waits", "open_seconds", "least", "most"),
    [
        (CircuitState.OPEN, 60.0, 60.0, 60.0, 66.05),
        # However long the lease of a probe: it may end at any moment.
        (CircuitState.HALF_OPEN, 30.0, 60.0, 1.0, 1.15),
        (CircuitState.HALF_OPEN, 0.5, 60.0, 0.5, 0.6),
        (CircuitState.HALF_OPEN, 30.0, 0.2, 0.2, 0.27),
    ],
)
def test_the_delay_is_the_wait_and_up_to_a_tenth_and_a_little_more(
    state: CircuitState, waits: float, open_seconds: float, least: float, most: float
) -> None:
    entry = Entry(circuit(open_seconds=open_seconds), "token", state, admitted=False, retry_seconds=waits)
    tool = made(nothing, "tests.nothing")
    assert refused(tool, entry, (), lambda low, _: low).retry_delay == least
    assert refused(tool, entry, (), lambda _, high: high).retry_delay == most
