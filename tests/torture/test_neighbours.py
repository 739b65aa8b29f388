"""A tenant that sends a hundred times its share, and one that keeps well within its own: what the second one notices.

The long form, with figures (`pytest -s`). The ratio is always printed, and judged where the machine has some processor
to spare.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from .neighbours import NOISY, QUIET, Watched, compared, house, report, spare

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SECONDS = 10.0
ROUNDS = max(1, round(6 * SCALE))
# Of the noisy tenant: calls that may begin in a second, and places. It sends a hundred times as many calls as fit. A
# slower machine has some processor to spare only beside the smaller share.
SHARE, SMALLER, TIMES = 10, 5, 100
# The quiet one may make as many, and makes half of that.
QUIET_RATE = 50.0
QUIET_SHARE = 2 * QUIET_RATE
WAITING = 256
RATIO = 2.0

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1200)]

PLACES = f"""
[[rule]]
name = "places"
per = "tenant"
count = "running"
limit = {SHARE}
"""


def rates(share: int) -> str:
    """So many calls a second for the noisy tenant, and enough for any other."""
    return f"""
[[rule]]
name = "share"
per = "tenant"
window_seconds = 1
limit = {QUIET_SHARE:.0f}

[[rule]]
name = "small-share"
tenant = "{NOISY}"
per = "tenant"
window_seconds = 1
limit = {share}
"""


def judged(title: str, alone: Watched, beside: Watched) -> None:
    """No call of the quiet tenant is lost or refused, and its p99 stays under twice its p99 alone."""
    figures = report(title, alone, beside)
    assert unharmed(figures)
    # A slow call that waited for long may run out of time while it runs.
    assert set(beside.noisy.answers) <= {"OK", "RATE_LIMITED", "CONCURRENCY_LIMITED", "CLIENT_DEADLINE"}
    if not spare(alone, beside):
        pytest.skip(f"the machine has no processor to spare, which a judgement takes: {figures['processors']}")
    assert figures["p99_ratio"] < RATIO


def unharmed(figures: dict[str, Any]) -> bool:
    """Whether every call of the quiet tenant was answered well, alone and beside the other."""
    return figures["quiet_answers"] == [{"OK": calls} for calls in figures["quiet_calls"]]


@pytest.mark.parametrize("share", [SHARE, SMALLER])
def test_a_tenant_at_a_hundred_times_its_rate_does_not_slow_another_one(tmp_path: Path, share: int) -> None:
    with house(tmp_path, rates(share)) as here:
        quiet = here.plan(QUIET, QUIET_RATE, SECONDS)
        noisy = here.plan(NOISY, share * TIMES, SECONDS, connections=4, nice=10)
        alone, beside = asyncio.run(compared(here, quiet, noisy, ROUNDS))
    # Nothing of its share was withheld from it, and nothing was let through beyond it.
    assert 0.9 * share <= beside.noisy.answers["OK"] / beside.noisy.seconds <= 1.1 * share + 1
    judged(f"{share * TIMES} calls a second at a share of {share}", alone, beside)


@pytest.mark.parametrize("rate", [250, 500, 2000])
def test_a_quiet_tenant_loses_nothing_at_other_rates_of_refusals(tmp_path: Path, rate: int) -> None:
    with house(tmp_path, rates(SHARE)) as here:
        quiet = here.plan(QUIET, QUIET_RATE, SECONDS)
        noisy = here.plan(NOISY, rate, SECONDS, connections=4, nice=10)
        alone, beside = asyncio.run(compared(here, quiet, noisy, max(1, ROUNDS // 3)))
    # Only shown: how fast it is depends on whether the processor is used up.
    assert unharmed(report(f"{rate} calls a second at a share of {SHARE}", alone, beside))


def test_a_tenant_whose_slow_calls_fill_its_places_and_the_line_does_not_slow_another_one(tmp_path: Path) -> None:
    with house(tmp_path, PLACES, TOOLWRIGHT_LIMITS_QUEUE_LIMIT=str(WAITING)) as here:
        quiet = here.plan(QUIET, QUIET_RATE, SECONDS, tool="diagnostics.sleep", arguments={"seconds": 0.005})
        # In its places fit SHARE calls of a second, a second.
        slow = {"tool": "diagnostics.sleep", "arguments": {"seconds": 1.0}, "deadline_seconds": 5.0}
        noisy = here.plan(NOISY, SHARE * TIMES, SECONDS, connections=4, nice=10, **slow)
        alone, beside = asyncio.run(compared(here, quiet, noisy, ROUNDS))
    judged(f"{SHARE * TIMES} calls of 1 s a second, {SHARE} places, {WAITING} in line", alone, beside)
