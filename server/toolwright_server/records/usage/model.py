"""What is summed up, by what, and what is asked. Pure data."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

HOUR_SECONDS: Final = 3_600
DAY_HOURS: Final = 24
# Rows that one question may come to.
MOST_ROWS: Final = 20_000
# Rows that are summed or ranked before the event loop has its turn.
PART_ROWS: Final = 250
# Sheets that servers write on, so that they seldom wait for each other: each on the one of its name.
SHARDS: Final = 16

# What is counted, in the order in which it is kept. The first six are the outcomes, and every call has one of them.
COUNTS: Final = (
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "rejected",
    "outcome_unknown",
    # Calls that were attempted at all, and their attempts.
    "attempted",
    "attempts",
    # Results that were not the tool's own.
    "cached",
    "joined",
    "fallbacks",
    "cost_micros",
    # Of calls that are in the buckets of latencies.
    "queue_micros",
    "tool_micros",
)
_OUTCOMES: Final = 6
_AT: Final = {name: number for number, name in enumerate(COUNTS)}


class Use(NamedTuple):
    """What one execution that has ended counts for. `hour`: in which it was made, since the epoch."""

    hour: int
    tenant: str
    user: str
    agent: str
    tool: str
    category: str
    shard: int
    # In the order of COUNTS.
    counts: tuple[int, ...]
    # Of latency.py; None when it tells nothing about how long a call takes.
    bucket: int | None


class Dimension(StrEnum):
    """What sums can be told apart by."""

    TOOL = "tool"
    CATEGORY = "category"
    TENANT = "tenant"
    USER = "user"
    AGENT = "agent"
    DAY = "day"
    HOUR = "hour"


class Order(IntEnum):
    """Which rows come first; numbers are those of the contract."""

    DIMENSIONS = 0
    MOST_CALLS = 1
    FEWEST_CALLS = 2
    MOST_FAILURES = 3
    SLOWEST = 4
    MOST_COST = 5


@dataclass(slots=True)
class Figures:
    """A sum. `counts` in the order of COUNTS, `latencies` by bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * len(COUNTS))
    latencies: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, use: Use, sign: int = 1) -> None:
        """Count one execution, or (-1) not any more."""
        self.counts = [have + sign * more for have, more in zip(self.counts, use.counts, strict=True)]
        if use.bucket is not None:
            self.latencies[use.bucket] = self.latencies.get(use.bucket, 0) + sign

    def merge(self, other: "Figures") -> None:
        """Add another sum."""
        self.counts = [have + more for have, more in zip(self.counts, other.counts, strict=True)]
        for bucket, count in other.latencies.items():
            self.latencies[bucket] = self.latencies.get(bucket, 0) + count

    def of(self, name: str) -> int:
        """One of COUNTS."""
        return self.counts[_AT[name]]

    @property
    def calls(self) -> int:
        """All outcomes together."""
        return sum(self.counts[:_OUTCOMES])

    @property
    def failures(self) -> int:
        """Calls that neither succeeded nor were cancelled."""
        return self.calls - self.of("succeeded") - self.of("cancelled")

    @property
    def success_rate(self) -> float | None:
        """Of those that were not cancelled; None when there are none."""
        judged = self.calls - self.of("cancelled")
        return self.of("succeeded") / judged if judged else None

    @property
    def average_attempts(self) -> float | None:
        """Of those that were attempted; None when there are none."""
        attempted = self.of("attempted")
        return self.of("attempts") / attempted if attempted else None

    @property
    def timed(self) -> int:
        """Calls of which it is known how long they took."""
        return sum(self.latencies.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """What a store is asked for. Hours since the epoch, `until` is left out; empty texts: all."""

    dimensions: tuple[Dimension, ...]
    since: int
    until: int
    tenant: str = ""
    user: str = ""
    agent: str = ""
    tool: str = ""
    category: str = ""

    @property
    def is_about_users(self) -> bool:
        """Whether users or agents must be told apart for it."""
        return bool(self.user or self.agent) or not {Dimension.USER, Dimension.AGENT}.isdisjoint(self.dimensions)


# One value for each dimension, in their order; hours and days are numbers since the epoch.
Group = tuple[str | int, ...]
