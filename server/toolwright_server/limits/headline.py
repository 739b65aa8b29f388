"""What is left, in one short line for every answer: of the limit that is nearest to its end."""

from math import ceil

from toolwright_server.limits.limiter import Admission


def headline(admission: Admission) -> str:
    """`"rule";r=remaining;t=seconds until one more fits`; empty when nothing that a caller could wait for limits it."""
    nearest = admission.tightest if admission.checks else None
    if nearest is None:
        return ""
    remaining = max(0, nearest.check.limit - nearest.used)
    return f'"{nearest.check.rule}";r={remaining};t={ceil(nearest.reset_seconds)}'
