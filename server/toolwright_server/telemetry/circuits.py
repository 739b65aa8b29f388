"""What is counted and shown of circuits: the part of Metrics that breakers feed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from toolwright_server.telemetry.instruments import Counter, Gauges, Instrument

_NAME: Final = "toolwright.circuit.name"


class CircuitMetrics:
    """Counters, and a gauge that `observe` feeds. Circuits are as many as tools and upstreams are declared."""

    def __init__(self) -> None:
        self._read: Callable[[], Mapping[str, float]] = dict
        self._refused = Counter("toolwright.circuit.refused", "{attempt}", "Attempts that a circuit refused.", (_NAME,))
        self._changes = Counter(
            "toolwright.circuit.changes",
            "{time}",
            "Times that a circuit opened, half-opened or closed.",
            (_NAME, "toolwright.circuit.state"),
        )
        description = "How a circuit stands: 0 closed, 1 half-open, 2 open."
        self._state = Gauges("toolwright.circuit.state", "1", description, _NAME, self._standings)

    def _standings(self) -> Mapping[str, float]:
        return self._read()

    def __iter__(self) -> Iterator[Instrument]:
        return iter((self._refused, self._changes, self._state))

    def refused(self, circuit: str) -> None:
        """An attempt was not let through."""
        self._refused.add(1, (circuit,))

    def changed(self, circuit: str, state: str) -> None:
        """It is `open`, `half_open` or `closed` from now on."""
        self._changes.add(1, (circuit, state))

    def observe(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Show how circuits stand, by name: 0 closed, 1 half-open, 2 open. `read` is called from any thread."""
        self._read = read
