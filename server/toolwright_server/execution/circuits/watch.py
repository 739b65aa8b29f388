"""Says how circuits change: one line in the log and one count for each change. Decides nothing."""

import logging

from toolwright_server.execution.circuits.model import Change, CircuitState
from toolwright_server.telemetry import Metrics

_logger = logging.getLogger(__name__)


class CircuitWatch:
    """Told by the store of each change that this server has made."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def changed(self, change: Change) -> None:
        """A circuit has gone into another state."""
        name = change.circuit.name
        self._metrics.circuits.changed(name, change.state.value)
        extra = {"circuit": name, "circuit_state": change.state.value}
        if change.state is CircuitState.OPEN:
            _logger.warning(
                "the circuit of %s is open for %.1f s: of %d calls %d failed and %d were slow",
                name,
                change.open_seconds,
                *change.tally,
                extra=extra,
            )
        elif change.state is CircuitState.HALF_OPEN:
            _logger.info("the circuit of %s is half-open: one call tries whether all is well", name, extra=extra)
        else:
            _logger.info("the circuit of %s is closed again", name, extra=extra)
