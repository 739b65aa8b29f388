"""When a budget that is nearly used up is worth a warning."""

from typing import Final

# In per cent, the highest first.
THRESHOLDS: Final = (95, 80)
_WHOLE: Final = 100


def passed(before: int, after: int, limit: int) -> int | None:
    """The highest threshold that going from `before` to `after` has reached, in per cent; None: none."""
    for threshold in THRESHOLDS:
        if before * _WHOLE < threshold * limit <= after * _WHOLE:
            return threshold
    return None
