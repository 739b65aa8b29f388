"""One circuit: closed until too many calls fail, open for a while, half-open until one probe has said how it is.

Pure, and clocked from outside: every instant is given, in seconds, and none may be before an earlier one.
"""

from collections.abc import Callable
from typing import Final

from toolwright_server.catalog.model import CircuitPolicy
from toolwright_server.execution.circuits.model import (
    Change,
    Circuit,
    CircuitState,
    Entry,
    Report,
    Sign,
    Standing,
    Tally,
)
from toolwright_server.execution.circuits.window import Window

# Beyond that every time is longer than the longest.
_DOUBLINGS: Final = 40


class Machine:
    """See the module. `changed` is told of each change."""

    __slots__ = (
        "_changed",
        "_circuit",
        "_closed_at",
        "_generation",
        "_openings",
        "_probe",
        "_state",
        "_until",
        "_window",
    )

    def __init__(self, circuit: Circuit, changed: Callable[[Change], object]) -> None:
        self._circuit = circuit
        self._changed = changed
        self._state = CircuitState.CLOSED
        self._generation = 0
        self._window = Window(circuit.policy.window_seconds)
        # How often it has opened in a row, and until when it is open.
        self._openings = 0
        self._until = 0.0
        self._closed_at: float | None = None
        # Who probes, and until when it must be heard of.
        self._probe: tuple[str, float] | None = None

    def enter(self, now: float, token: str, lease_seconds: float) -> Entry:
        """Whether an attempt may begin. Of a half-open circuit one at a time may, for as long as its lease holds."""
        if self._state is CircuitState.CLOSED:
            return self._entry(token, admitted=True)
        if self._state is CircuitState.OPEN:
            if now < self._until:
                return self._entry(token, retry_seconds=self._until - now)
            self._state = CircuitState.HALF_OPEN
            self._changed(Change(self._circuit, self._state))
        if self._probe is not None and self._probe[0] != token and now < self._probe[1]:
            return self._entry(token, retry_seconds=self._probe[1] - now)
        self._probe = token, now + lease_seconds
        return self._entry(token, admitted=True, is_probe=True)

    def record(self, now: float, token: str, generation: int, report: Report) -> None:
        """An attempt has ended."""
        if self._state is CircuitState.HALF_OPEN:
            if self._probe is not None and self._probe[0] == token:
                self._probed(now, report)
        elif self._state is CircuitState.CLOSED and generation == self._generation and report.sign is not Sign.NOTHING:
            self._window.add(now, report)
            tally = self._window.tally(now)
            if too_many(self._circuit.policy, tally):
                grows = self._closed_at is not None and now - self._closed_at < self._circuit.policy.window_seconds
                self._open(now, self._openings + 1 if grows else 1, tally)

    def renew(self, now: float, token: str, lease_seconds: float) -> None:
        """The probe still runs."""
        if self._probe is not None and self._probe[0] == token:
            self._probe = token, now + lease_seconds

    def standing(self, now: float) -> Standing:
        """How it stands; one whose time is over is half-open."""
        if self._state is not CircuitState.OPEN:
            return Standing(self._state)
        left = self._until - now
        return Standing(CircuitState.OPEN, left) if left > 0 else Standing(CircuitState.HALF_OPEN)

    def adopt(self, now: float, open_seconds: float) -> None:
        """Go on where others were: open for so long."""
        self._state, self._until, self._probe = CircuitState.OPEN, now + open_seconds, None
        self._generation += 1
        self._openings = max(1, self._openings)

    def _probed(self, now: float, report: Report) -> None:
        self._probe = None
        if report.is_bad:
            self._open(now, self._openings + 1, Tally(1, int(report.sign is Sign.FAILED), int(report.slow)))
        elif report.sign is Sign.ANSWERED:
            self._state, self._closed_at = CircuitState.CLOSED, now
            self._generation += 1
            self._window.clear()
            self._changed(Change(self._circuit, self._state))

    def _open(self, now: float, openings: int, tally: Tally) -> None:
        seconds = open_seconds(self._circuit.policy, openings)
        self._state, self._until, self._openings = CircuitState.OPEN, now + seconds, openings
        self._generation += 1
        self._window.clear()
        self._changed(Change(self._circuit, self._state, seconds, tally))

    def _entry(
        self, token: str, *, admitted: bool = False, is_probe: bool = False, retry_seconds: float = 0.0
    ) -> Entry:
        return Entry(self._circuit, token, self._state, admitted, self._generation, is_probe, retry_seconds)


def too_many(policy: CircuitPolicy, tally: Tally) -> bool:
    """Whether so many bad calls open a circuit."""
    if tally.calls < policy.minimum_calls:
        return False
    if tally.failures / tally.calls >= policy.failure_ratio:
        return True
    return policy.slow_call_seconds is not None and tally.slow / tally.calls >= policy.slow_ratio


def open_seconds(policy: CircuitPolicy, openings: int) -> float:
    """How long a circuit is open that has opened so often in a row."""
    return min(policy.max_open_seconds, policy.open_seconds * 2.0 ** min(openings - 1, _DOUBLINGS))
