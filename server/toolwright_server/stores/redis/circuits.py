"""Circuits in Redis or Valkey, the same for every server that shares it. Entering is one round trip, the rest none.

Nobody waits for the store longer than it is allowed to: without its answer a server judges by itself, and begins with
what it knew last. Never raises.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

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
from toolwright_server.stores.memory.circuits import MemoryCircuitStore
from toolwright_server.stores.redis.link import Link
from toolwright_server.stores.redis.scripts import CIRCUITS, evaluated

_MICROSECONDS: Final = 1_000_000
_STATES: Final = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)
# How much longer than its times last a circuit is kept, as in circuits.lua.
_DAY_SECONDS: Final = 86_400.0
# When the store is late and the circuit was not closed: come back, it will say.
_LATE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store said last. `until`: on this server's clock, when it lets a probe through."""

    state: CircuitState
    until: float
    # From then on nobody knows anything of it any more.
    expires: float


class RedisCircuitStore:
    """A CircuitStore. `link` says whom to ask for a key; `local` judges while that does not answer.

    `changed` is told of each change that the store made when this server asked; `clock` is monotonic.
    """

    def __init__(
        self,
        link: Callable[[bytes], Link],
        local: MemoryCircuitStore,
        changed: Callable[[Change], object],
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._local = local
        self._changed = changed
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._known: dict[str, _Known] = {}
        # Circuits that this server judges by itself.
        self._alone: set[str] = set()

    async def enter(self, circuit: Circuit, token: str) -> Entry:
        known = self._known.get(circuit.name)
        if known is not None and known.state is CircuitState.OPEN:
            left = known.until - self._clock()
            if left > 0 and circuit.name not in self._alone:
                # Nothing closes it before: a flood of calls does not reach the store.
                return Entry(circuit, token, CircuitState.OPEN, admitted=False, retry_seconds=left)
        link = self._link(_key(circuit))
        waiting = link.ask(self._command(circuit, b"enter", token), partial(self._late, circuit, token))
        try:
            answer = await waiting if waiting is not None else None
        except asyncio.CancelledError:
            # The answer may have come in the same moment.
            if waiting is not None and waiting.done() and not waiting.cancelled():
                self._late(circuit, token, waiting.result())
            raise
        if answer is None:
            return self._without(circuit, token, is_late=link.is_up)
        if circuit.name in self._alone:
            self._alone.discard(circuit.name)
            self._local.forget(circuit)
        return self._entry(circuit, token, answer)

    def record(self, entry: Entry, report: Report) -> None:
        if entry.is_local:
            # When others keep it again, what was begun alone is over as well: it would make a circuit that nobody asks.
            if entry.circuit.name in self._alone:
                self._local.record(entry, report)
        elif entry.is_probe or report.sign is not Sign.NOTHING:
            # The token of a probe says whether it was heard already. Other reports are only counted: one that is lost
            # does less harm than one that counts twice.
            self._tell(entry, b"record", *_said(entry, report), once=not entry.is_probe)

    def renew(self, entry: Entry) -> None:
        if entry.is_local:
            if entry.circuit.name in self._alone:
                self._local.renew(entry)
        else:
            self._tell(entry, b"renew")

    def standing(self, circuit: Circuit) -> Standing:
        if circuit.name in self._alone:
            return self._local.standing(circuit)
        known, now = self._known.get(circuit.name), self._clock()
        if known is None or known.state is CircuitState.CLOSED or now >= known.expires:
            return Standing(CircuitState.CLOSED)
        if known.state is CircuitState.OPEN and now < known.until:
            return Standing(CircuitState.OPEN, known.until - now)
        return Standing(CircuitState.HALF_OPEN)

    def _without(self, circuit: Circuit, token: str, *, is_late: bool) -> Entry:
        """Decide without the store's answer."""
        standing = self.standing(circuit)
        if circuit.name not in self._alone and standing.state is not CircuitState.CLOSED:
            if is_late:
                # It is there: who is the one that probes, it alone knows.
                return Entry(circuit, token, standing.state, admitted=False, retry_seconds=_LATE_SECONDS)
            # Another server may be trying it already. A store that was away for a moment makes no second probe.
            self._local.adopt(circuit, standing.retry_seconds + circuit.policy.open_seconds)
        self._alone.add(circuit.name)
        entry = self._local.enter_now(circuit, token)
        return Entry(
            circuit, token, entry.state, entry.admitted, entry.generation, entry.is_probe, entry.retry_seconds, True
        )

    def _entry(self, circuit: Circuit, token: str, answer: Sequence[Any]) -> Entry:
        said = self._learn(circuit, answer)
        admitted, is_probe = bool(answer[3]), bool(answer[4])
        return Entry(circuit, token, said.state, admitted, int(answer[2]), is_probe, answer[1] / _MICROSECONDS)

    def _learn(self, circuit: Circuit, answer: Sequence[Any]) -> _Known:
        state, until = _STATES[int(answer[0])], self._clock() + answer[1] / _MICROSECONDS
        policy = circuit.policy
        expires = until + self._lease_seconds + policy.max_open_seconds + policy.window_seconds + _DAY_SECONDS
        known = self._known[circuit.name] = _Known(state, until, expires)
        if answer[5]:
            tally = Tally(*answer[7:10])
            self._changed(Change(circuit, state, answer[6] / _MICROSECONDS, tally))
        return known

    def _late(self, circuit: Circuit, token: str, answer: Any) -> None:
        """Who asked has gone: what it was let through as, or may have been, is free again."""
        if answer is not None:
            entry = self._entry(circuit, token, answer)
            if not entry.is_probe:
                return
        else:
            entry = Entry(circuit, token, CircuitState.HALF_OPEN, admitted=True, is_probe=True)
        self.record(entry, Report(Sign.NOTHING))

    def _tell(self, entry: Entry, verb: bytes, *more: bytes, once: bool = False) -> None:
        circuit = entry.circuit
        command = self._command(circuit, verb, entry.token, *more)
        lasts = self._lease_seconds if entry.is_probe else circuit.policy.window_seconds
        self._link(_key(circuit)).tell(command, lasts, partial(self._told, circuit), once=once)

    def _told(self, circuit: Circuit, answer: Any) -> None:
        if answer is not None:
            self._learn(circuit, answer)

    def _command(self, circuit: Circuit, verb: bytes, token: str, *more: bytes) -> bytes:
        policy = circuit.policy
        slow_ratio = policy.slow_ratio if policy.slow_call_seconds is not None else 0.0
        arguments = (
            verb,
            token.encode(),
            _microseconds(self._lease_seconds),
            _microseconds(policy.window_seconds),
            b"%d" % policy.minimum_calls,
            repr(float(policy.failure_ratio)).encode(),
            repr(float(slow_ratio)).encode(),
            _microseconds(policy.open_seconds),
            _microseconds(policy.max_open_seconds),
        )
        return evaluated(CIRCUITS, [_key(circuit)], (*arguments, *more))


def _key(circuit: Circuit) -> bytes:
    return b"tw:{circuit:%b}" % circuit.name.encode()


def _said(entry: Entry, report: Report) -> tuple[bytes, ...]:
    facts = (report.sign is not Sign.NOTHING, report.sign is Sign.FAILED, report.slow)
    return (b"%d" % entry.generation, *(b"%d" % fact for fact in facts))


def _microseconds(seconds: float) -> bytes:
    return b"%d" % round(seconds * _MICROSECONDS)
