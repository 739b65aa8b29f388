"""What a limit is: the counters that one call takes from, and what became of the taking. Never keeps anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum


class Kind(Enum):
    """What a counter counts."""

    WINDOW = "calls begun within any window of so many seconds"
    DAY = "calls begun on a calendar day (UTC)"
    MONTH = "calls begun in a calendar month (UTC)"
    RUNNING = "calls that run at the moment"


class Fail(StrEnum):
    """What a rule says while the shared store does not answer."""

    OPEN = "open"
    CLOSED = "closed"
    # The limit divided by the servers last seen, counted in process.
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Check:
    """One counter that a call takes one from, and how much it may hold.

    `key` names the counter: all keys of a call begin with its tenant in braces, so that they lie in one slot of a
    cluster. `rule` is the rule's name in the configuration, `subject` whom it holds for, in words for people.
    """

    rule: str
    key: str
    kind: Kind
    limit: int
    subject: str
    # Length of the window in seconds; 0 for every other kind.
    window_seconds: float = 0.0
    fail: Fail = Fail.LOCAL
    # Counted and reported, not enforced.
    shadow: bool = False
    # What is counted, in words for people: "browser calls".
    what: str = "calls"


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter as it stands. `reset_seconds`: until one more fits, or for a day or month until it begins anew.

    0 when one more fits, and for running calls always: nobody knows when one of them ends.
    """

    check: Check
    used: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Taking:
    """What became of a call's checks: all were taken, or, with a `refused` that is not in shadow, none was.

    `readings` stand in the order of the checks, after the taking. `refused` is, of several that refuse, the one that
    takes longest until one more fits: a place of a running call only when nothing else refuses. `over` are the rules in
    shadow that would have refused a call that was let in; it takes nothing from them, so that they count exactly what
    they would let through.
    """

    readings: Sequence[Reading]
    refused: Reading | None = None
    over: Sequence[Reading] = ()
    # What the readings say is used, where a store knows it without making them.
    used: Sequence[int] | None = None
    # Refused although nobody knows the counters: the shared store does not answer, and a rule is closed without it.
    unavailable: bool = False
