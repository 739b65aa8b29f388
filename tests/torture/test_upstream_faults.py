"""A real HTTP server injects errors, delays, resets and half answers, at 10, 50 and 100 %: a table of what that costs.

`TORTURE_SEED` repeats which answers are bad.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.live import LiveServer, live_server
from tests.upstream import Fault, Upstream, running_upstream
from tests.upstream_tools import RATIOS

from .ailing import HEAD, Illness, suffer, wrong

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
SECONDS = max(4.0, 10.0 * SCALE)
TOOLS = str(Path(__file__).parents[1] / "upstream_tools.py")

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]


async def all_illnesses(server: LiveServer, upstream: Upstream) -> list[Illness]:
    """One after the other, with and without retries side by side."""
    found: list[Illness] = []
    for fault in Fault:
        for percent in RATIOS:
            pair = [Illness(fault, percent, retries) for retries in (False, True)]
            await asyncio.gather(*(suffer(server, upstream, each, SECONDS) for each in pair))
            found += pair
    return found


def test_an_upstream_that_fails_is_left_alone_and_found_again_when_it_is_well(tmp_path: Path) -> None:
    with running_upstream(SEED) as upstream:
        env = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "UPSTREAM_URL": upstream.url, "TOOLWRIGHT_DATABASE_URL": "memory:"}
        with live_server(tmp_path, "--tools", TOOLS, env=env) as server:
            illnesses = asyncio.run(all_illnesses(server, upstream))
    print(f"\nseed {SEED}, ill for {SECONDS:g} s each\n{HEAD}", *(each.line() for each in illnesses), sep="\n")  # noqa: T201
    found = [line for each in illnesses for line in wrong(each)]
    assert not found, f"seed {SEED}:\n" + "\n".join(found)
    by_name = {each.name: each for each in illnesses}
    for fault in (Fault.ERRORS, Fault.RESETS, Fault.HALVES):
        once, retried = (by_name[Illness(fault, 10, retries).name] for retries in (False, True))
        # A tenth of the answers is bad: too few to open it, and retries hide nearly all of them.
        assert not once.openings
        assert not retried.openings
        assert once.answered < retried.answered
        assert retried.answered > 0.97
