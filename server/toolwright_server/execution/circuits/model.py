"""What is said of circuits: their states, who was let through, what an attempt's end says. Decides nothing."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

from toolwright_server.catalog.model import CircuitPolicy


class CircuitState(StrEnum):
    """What becomes of who comes: is let through, is refused, or is refused unless it is the one that probes."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Sign(Enum):
    """What an attempt's end says of its upstream."""

    NOTHING = "nothing"
    ANSWERED = "it is there"
    FAILED = "it failed"


@dataclass(frozen=True, slots=True)
class Circuit:
    """One circuit of this server, or of all that share a store: that of an upstream, or of one version of a tool."""

    name: str
    policy: CircuitPolicy


@dataclass(frozen=True, slots=True)
class Report:
    """How an attempt ended. A slow one counts as such whether it failed or not."""

    sign: Sign
    slow: bool = False

    @property
    def is_bad(self) -> bool:
        """Whether a probe that ended so opens the circuit again."""
        return self.sign is Sign.FAILED or self.slow


@dataclass(frozen=True, slots=True)
class Entry:
    """Whether an attempt may begin, and as what.

    `generation` counts openings and closings: a report of an attempt that began before the last one says nothing of
    what came after. `retry_seconds` of a refused one: until the circuit lets a probe through, or until the lease of the
    present probe ends. `is_local`: decided by this server alone.
    """

    circuit: Circuit
    token: str
    state: CircuitState
    admitted: bool
    generation: int = 0
    is_probe: bool = False
    retry_seconds: float = 0.0
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a circuit stands as far as this server knows. `retry_seconds`: until it lets a probe through; 0 if closed."""

    state: CircuitState
    retry_seconds: float = 0.0


class Tally(NamedTuple):
    """What a window holds."""

    calls: int = 0
    failures: int = 0
    slow: int = 0


NO_CALLS = Tally()


@dataclass(frozen=True, slots=True)
class Change:
    """A circuit has gone into another state. `open_seconds` and `tally`, the reason, when it has opened."""

    circuit: Circuit
    state: CircuitState
    open_seconds: float = 0.0
    tally: Tally = NO_CALLS
