"""Stands before the backends of tools that have a circuit: refuses while it is open, and reports how attempts end."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from toolwright_server.catalog.model import Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.execution.backend import Backend, Work
from toolwright_server.execution.circuits.model import Circuit, CircuitState, Entry, Report, Sign, Standing
from toolwright_server.execution.circuits.refusal import CircuitRefused, refused
from toolwright_server.execution.circuits.signs import Attempt, report
from toolwright_server.execution.circuits.store import CircuitStore
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Stopped
from toolwright_server.identity import Caller
from toolwright_server.telemetry import Metrics

# A probe is renewed so often within its lease.
_RENEWALS: Final = 3


class Breaker:
    """All circuits of one server. `timeout_of` gives the seconds that hold for a tool when a call names none.

    `lease_seconds`: for how long the store lets a probe go unheard of.
    """

    def __init__(
        self,
        store: CircuitStore,
        catalog: Catalog,
        timeout_of: Callable[[Tool], float],
        metrics: Metrics,
        *,
        lease_seconds: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.store = store
        self.lease_seconds = lease_seconds
        self._catalog = catalog
        self._timeout_of = timeout_of
        self._metrics = metrics
        self._uniform = uniform
        # By name; those that share one have the same policy.
        self._circuits = {tool.circuit_name: _circuit(tool) for tool in catalog.all() if tool.circuit is not None}

    def before(self, backend: Backend, flight: Flight) -> Backend:
        """The backend for the attempts of one call: the same one for a tool without a circuit."""
        return backend if flight.tool.circuit is None else _Guarded(self, backend, flight)

    def standing(self, tool: Tool) -> Standing | None:
        """How a tool's circuit stands as far as this server knows; None: it has none. From any thread."""
        return None if tool.circuit is None else self.store.standing(_circuit(tool))

    def standings(self) -> dict[str, Standing]:
        """All circuits, by name. From any thread."""
        return {name: self.store.standing(circuit) for name, circuit in self._circuits.items()}

    def refuse(self, tool: Tool, entry: Entry, caller: Caller) -> CircuitRefused:
        """The refusal of an attempt."""
        self._metrics.circuits.refused(entry.circuit.name)
        return CircuitRefused(refused(tool, entry, self._alternatives(tool, caller), self._uniform))

    def declared_timeout(self, tool: Tool) -> float:
        """What the tool declares: its tenant may have shortened it, which makes no upstream worse."""
        return self._timeout_of(self._catalog.resolve(tool.name, tool.version))

    def _alternatives(self, tool: Tool, caller: Caller) -> Sequence[str]:
        return [name for name in tool.alternatives if self._is_usable(name, caller)]

    def _is_usable(self, name: str, caller: Caller) -> bool:
        other = self._catalog.offered(name, caller.may_call, caller.tenant)
        if other is None:
            return False
        standing = self.standing(other)
        return standing is None or standing.state is CircuitState.CLOSED


class _Guarded:
    """The Backend of one call whose tool has a circuit."""

    __slots__ = ("_backend", "_breaker", "_entered", "_flight")

    def __init__(self, breaker: Breaker, backend: Backend, flight: Flight) -> None:
        self._breaker = breaker
        self._backend = backend
        self._flight = flight
        self._entered = 0

    @property
    def unconfirmed(self) -> Stopped:
        return self._backend.unconfirmed

    async def run(self, work: Work) -> bytes:
        """As the Protocol says. Raises CircuitRefused while the circuit is open."""
        flight, tool = self._flight, self._flight.tool
        self._entered += 1
        token = f"{flight.execution.execution_id}:{self._entered}"
        entry = await self._breaker.store.enter(_circuit(tool), token)
        _trace(flight, entry)
        if not entry.admitted:
            raise self._breaker.refuse(tool, entry, work.caller)
        passage = _Passage(self._breaker, flight, entry)
        try:
            value = await self._backend.run(work)
        except BaseException as error:
            passage.end(error)
            raise
        passage.end(None)
        return value


class _Passage:
    """An attempt that was let through, until its end is reported, once."""

    __slots__ = ("_breaker", "_entry", "_flight", "_renewal")

    def __init__(self, breaker: Breaker, flight: Flight, entry: Entry) -> None:
        self._breaker = breaker
        self._flight = flight
        self._entry: Entry | None = entry
        self._renewal: asyncio.TimerHandle | None = None
        flight.attempt_started_at = None
        # Its tool may go on after it was told to stop: the upstream is judged by then.
        flight.overran = self._overran
        if entry.is_probe:
            self._renewal = flight.loop.call_later(self._breaker.lease_seconds / _RENEWALS, self._renew)

    def end(self, error: BaseException | None) -> None:
        """It has ended; `error` None: it answered."""
        entry, self._entry = self._entry, None
        if entry is None:
            return
        self._flight.overran = None
        if self._renewal is not None:
            self._renewal.cancel()
        self._breaker.store.record(entry, self._report(error))

    def _overran(self) -> None:
        self.end(TimeoutError())

    def _report(self, error: BaseException | None) -> Report:
        flight, policy = self._flight, self._flight.tool.circuit
        began = flight.attempt_started_at
        if began is None or policy is None:
            return Report(Sign.NOTHING)
        attempt = Attempt(
            ran=time.monotonic() - began,
            stop=flight.stop_reason,
            source=flight.deadline.source,
            timeout=self._breaker.declared_timeout(flight.tool),
            slow=policy.slow_call_seconds,
        )
        return report(attempt, error)

    def _renew(self) -> None:
        if self._entry is not None:
            self._breaker.store.renew(self._entry)
            self._renewal = self._flight.loop.call_later(self._breaker.lease_seconds / _RENEWALS, self._renew)


def _circuit(tool: Tool) -> Circuit:
    assert tool.circuit is not None, f"{tool.name} has no circuit"
    return Circuit(tool.circuit_name, tool.circuit)


def _trace(flight: Flight, entry: Entry) -> None:
    """Name the circuit in the tool's span; of several attempts the last one's state stays."""
    span = flight.trace.span
    if span is not None and flight.trace is not flight.invocation.trace:
        span.set_attribute("toolwright.circuit.name", entry.circuit.name)
        span.set_attribute("toolwright.circuit.state", entry.state.value)
