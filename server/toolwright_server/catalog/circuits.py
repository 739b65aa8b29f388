"""What a tool may declare about its circuit. Never opens one."""

import re
from collections.abc import Sequence
from typing import Final, TypedDict

from toolwright_server.catalog.model import NAME, NAME_LIMIT, CircuitPolicy, DeclarationError, Tool

# Host names with a port fit as well.
UPSTREAM: Final = re.compile(r"[a-z0-9][a-z0-9_.:-]*")
_LONGEST_SECONDS: Final = 86_400.0
_CALLS_LIMIT: Final = 1_000_000


class Declared(TypedDict):
    """The fields of a Tool that its circuit is declared by."""

    upstream: str
    circuit: CircuitPolicy | None
    alternatives: tuple[str, ...]


def declared(upstream: str, circuit: CircuitPolicy | None, alternatives: Sequence[str]) -> Declared:
    """Who names an upstream has a circuit; who names neither has nothing that could be left alone."""
    policy = circuit or (CircuitPolicy() if upstream else None)
    return Declared(upstream=upstream, circuit=policy, alternatives=tuple(alternatives))


def check(tool: Tool, where: str) -> None:
    """Refuse, by name, an upstream, a circuit or alternatives that cannot be right. Raises DeclarationError."""
    if tool.upstream and (not UPSTREAM.fullmatch(tool.upstream) or len(tool.upstream) > NAME_LIMIT):
        raise DeclarationError(
            f"{where}: upstream {tool.upstream!r} must be lower-case letters, digits and _ . : -, at most "
            f"{NAME_LIMIT} characters"
        )
    if tool.circuit is not None:
        _check_policy(tool.circuit, where)
    elif tool.alternatives:
        raise DeclarationError(
            f"{where}: alternatives are named while a circuit is open: give it an upstream or a circuit"
        )
    for name in tool.alternatives:
        if not NAME.fullmatch(name) or name == tool.name:
            raise DeclarationError(f"{where}: alternatives must be names of other tools; {name!r} is not")


def _check_policy(policy: CircuitPolicy, where: str) -> None:
    for name in ("failure_ratio", "slow_ratio"):
        if not 0 < getattr(policy, name) <= 1:
            raise DeclarationError(f"{where}: circuit.{name} {getattr(policy, name)} must be above 0 and at most 1")
    seconds = {name: getattr(policy, name) for name in ("slow_call_seconds", "window_seconds", "open_seconds")}
    for name, value in seconds.items():
        if value is not None and not 0 < value <= _LONGEST_SECONDS:
            raise DeclarationError(f"{where}: circuit.{name} {value} must be positive and at most a day")
    if not policy.open_seconds <= policy.max_open_seconds <= _LONGEST_SECONDS:
        raise DeclarationError(
            f"{where}: circuit.max_open_seconds {policy.max_open_seconds} must be at least open_seconds "
            f"{policy.open_seconds} and at most a day"
        )
    if not 1 <= policy.minimum_calls <= _CALLS_LIMIT:
        raise DeclarationError(f"{where}: circuit.minimum_calls {policy.minimum_calls} must be 1 to {_CALLS_LIMIT}")
