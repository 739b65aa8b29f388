"""10,000 cancelled and timed-out calls leave nothing behind: the long form, with figures printed (`pytest -s`)."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.live import live_server

from .leaking import SETTINGS, leak_rounds, slope_bytes

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
ROUNDS = 5
# Enough that what one call leaks stands out of the noise of a round.
CALLS = max(500, round(2000 * SCALE))
# Of memory per call; a leaked record, task or span is several times as much.
SLOPE_BYTES_PER_CALL = 200
# What a round may add however short it is: the allocator's arenas, and cycles that wait for the collector's oldest
# generation (some 100 bytes a call, until they are a quarter of what lives).
NOISE_BYTES = 512 * 1024
# A short run needs as long as a long one until caches and arenas have their size.
WARM_CALLS = max(CALLS, 1000)

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1500)]


def test_cancelled_and_timed_out_calls_leave_nothing_behind(tmp_path: Path) -> None:
    with live_server(tmp_path, env=SETTINGS) as server:
        warm, *rounds = asyncio.run(leak_rounds(server, rounds=ROUNDS, calls=CALLS, warm=WARM_CALLS))
        for held in rounds:
            assert not held.exceeds(warm)
            assert not held.in_flight
        slope = slope_bytes(rounds)
        print(f"memory: {slope / 1024:+.0f} KiB per round of {CALLS} calls")  # noqa: T201 (the long run's product)
        assert slope < SLOPE_BYTES_PER_CALL * CALLS + NOISE_BYTES
