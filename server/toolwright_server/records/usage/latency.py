"""Times in buckets that grow by 5 %, so that percentiles of any sums of them can be told: from 100 µs to 28 hours
within 2.5 % of the true one. What is shorter is told as 100 µs.

Bucket b holds what is longer than 100 µs * 1.05 ** (b - 1) and not longer than 100 µs * 1.05 ** b; the first holds all
that is shorter, the last, at about 28 hours, all that is longer. A percentile is answered as the bucket's geometric
middle (DDSketch, Masson and others, 2019, with a fixed range).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

GROWTH: Final = 1.05
_SCALE: Final = 1e4  # The first bucket ends at 100 µs.
LAST_BUCKET: Final = 425

_LOG: Final = math.log(GROWTH)


def bucket(seconds: float) -> int:
    """Where a time belongs."""
    return min(LAST_BUCKET, math.ceil(math.log(max(1.0, seconds * _SCALE)) / _LOG))


def middle(number: int) -> float:
    """What a time in this bucket is answered as, in seconds."""
    return GROWTH ** (number - 0.5 if number else 0) / _SCALE


def quantiles(buckets: Mapping[int, int], shares: Sequence[float]) -> list[float] | None:
    """For each share, in ascending order, the time that so many of all do not exceed; None when there are none."""
    total = sum(buckets.values())
    if total <= 0:
        return None
    found: list[float] = []
    seen, rest = 0, iter(sorted(buckets.items()))
    number = 0
    for share in shares:
        # The nearest rank: the smallest one that at least this share is not above. Rounded, or 0.95 * 100 is 95.00…1.
        rank = max(1, math.ceil(round(share * total, 6)))
        while seen < rank:
            number, count = next(rest)
            seen += count
        found.append(middle(number))
    return found
