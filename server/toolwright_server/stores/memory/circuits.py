"""Circuits in this process, for one server, or for one that does not reach the store that it shares with others."""

import time
from collections.abc import Callable

from toolwright_server.execution.circuits.machine import Machine
from toolwright_server.execution.circuits.model import Change, Circuit, CircuitState, Entry, Report, Standing


class MemoryCircuitStore:
    """A CircuitStore. There is a machine for each circuit that tools declare, so nothing is ever forgotten.

    `changed` is told of each change; `clock` is monotonic.
    """

    def __init__(
        self, changed: Callable[[Change], object], lease_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._changed = changed
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._machines: dict[str, Machine] = {}

    async def enter(self, circuit: Circuit, token: str) -> Entry:
        return self.enter_now(circuit, token)

    def enter_now(self, circuit: Circuit, token: str) -> Entry:
        """As `enter`."""
        return self._machine(circuit).enter(self._clock(), token, self._lease_seconds)

    def record(self, entry: Entry, report: Report) -> None:
        self._machine(entry.circuit).record(self._clock(), entry.token, entry.generation, report)

    def renew(self, entry: Entry) -> None:
        self._machine(entry.circuit).renew(self._clock(), entry.token, self._lease_seconds)

    def standing(self, circuit: Circuit) -> Standing:
        machine = self._machines.get(circuit.name)
        return Standing(CircuitState.CLOSED) if machine is None else machine.standing(self._clock())

    def adopt(self, circuit: Circuit, open_seconds: float) -> None:
        """Go on where a shared store was: the circuit is open for so long."""
        self._machine(circuit).adopt(self._clock(), open_seconds)

    def forget(self, circuit: Circuit) -> None:
        """Others keep it again."""
        self._machines.pop(circuit.name, None)

    def _machine(self, circuit: Circuit) -> Machine:
        machine = self._machines.get(circuit.name)
        if machine is None:
            machine = self._machines[circuit.name] = Machine(circuit, self._changed)
        return machine
