"""What a caller is told while a circuit is open: when to come back, and which tool could do the job instead."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from toolwright_server.catalog.model import Tool
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import NotSent
from toolwright_server.execution.circuits.model import CircuitState, Entry

# A probe may end at any moment: who is refused meanwhile comes back after so long, and is refused again if need be.
_WHILE_PROBED_SECONDS: Final = 1.0
# Who comes back together is refused together: they are spread over a tenth of the time, and a little.
_SPREAD: Final = 0.1
_SPREAD_SECONDS: Final = 0.05


class CircuitRefused(NotSent):
    """The circuit lets nobody through at the moment. Nothing was started, and nothing is new about what was before."""


def refused(tool: Tool, entry: Entry, alternatives: Sequence[str], uniform: Callable[[float, float], float]) -> Failure:
    """CIRCUIT_OPEN. `alternatives`: those that the caller can use; `uniform` is random between two numbers."""
    delay = _delay(entry, uniform)
    if entry.state is CircuitState.OPEN:
        message = f"the circuit of {entry.circuit.name} is open: {tool.name} was not called"
    else:
        message = (
            f"the circuit of {entry.circuit.name} is half-open, and another call tries it: {tool.name} was not called"
        )
    facts = {"circuit": entry.circuit.name, "circuit_state": entry.state.value}
    if alternatives:
        facts["alternatives"] = ",".join(alternatives)
    return Failure(
        Reason.CIRCUIT_OPEN,
        message,
        suggested_action=_suggested(alternatives, delay),
        retry_delay=delay,
        metadata=facts,
    )


def _delay(entry: Entry, uniform: Callable[[float, float], float]) -> float:
    seconds = entry.retry_seconds
    if entry.state is CircuitState.HALF_OPEN:
        seconds = min(seconds, _WHILE_PROBED_SECONDS, entry.circuit.policy.open_seconds)
    return round(seconds + uniform(0.0, _SPREAD * seconds + _SPREAD_SECONDS), 3)


def _suggested(alternatives: Sequence[str], delay: float) -> str:
    when = f"{math.ceil(delay)} s"
    if alternatives:
        return f"Call {alternatives[0]} instead, or this tool again in {when}."
    return f"Call this tool again in {when}; no other tool is known to do its work."
