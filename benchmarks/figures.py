"""Medians, percentiles and bootstrap intervals. Pure functions over lists of numbers."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """A median with the 95 % interval that resampling gives it."""

    median: float
    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int = 20260101) -> Interval:
    """The median of `values` and its percentile-bootstrap interval; the same values always give the same interval."""
    if not values:
        raise ValueError("no values to take a median of")
    chance = random.Random(seed)  # noqa: S311 - resampling, not secrecy
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Interval(statistics.median(values), percentile(medians, 2.5), percentile(medians, 97.5))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order."""
    if not ordered:
        raise ValueError("no values to take a percentile of")
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
