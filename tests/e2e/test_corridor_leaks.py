"""Cancelled and timed-out calls leave nothing behind: a sample of what `make torture` does 10,000 times."""

import asyncio
from pathlib import Path

from tests.live import live_server
from tests.torture.leaking import SETTINGS, leak_rounds


def test_a_sample_of_cancelled_and_timed_out_calls_leaves_nothing_behind(tmp_path: Path) -> None:
    env = SETTINGS | {"TOOLWRIGHT_PROCESS_WORKERS": "4"}
    with live_server(tmp_path, env=env) as server:
        warm, *rounds = asyncio.run(leak_rounds(server, rounds=2, calls=60))
        for held in rounds:
            assert not held.exceeds(warm)
            assert not held.in_flight
