"""What is left, in one short line for every answer: of the limit that is nearest to its end."""

from math import ceil

from toolwright_server.limits.limiter import Admission
from toolwright_server.limits.model import Kind, Reading


def headline(admission: Admission) -> str:
    """`"rule";r=remaining;t=seconds until one more fits`; empty when nothing that a caller could wait for limits it."""
    if not admission.checks:
        return ""
    counted = [each for each in admission.readings if each.check.kind is not Kind.RUNNING and not each.check.shadow]
    if not counted:
        return ""
    nearest = min(counted, key=_share_left)
    remaining = max(0, nearest.check.limit - nearest.used)
    return f'"{nearest.check.rule}";r={remaining};t={ceil(nearest.reset_seconds)}'


def _share_left(reading: Reading) -> float:
    limit = reading.check.limit
    return (limit - reading.used) / limit if limit else 0.0
