"""SIGTERM in the middle of 200 running calls and 50 streams: the long form of an orderly end."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.live import live_server

from .draining import assert_nothing_was_lost, drain

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
ROUNDS = max(1, round(3 * SCALE))

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_sigterm_under_load_loses_nothing_that_was_accepted(tmp_path: Path, attempt: int) -> None:
    with live_server(
        tmp_path, env={"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_DRAIN_NOTICE_SECONDS": "2"}
    ) as server:
        found = asyncio.run(drain(server, calls=200, streams=50, seconds=8))
        assert_nothing_was_lost(found)
        print(f"drain {attempt}: 250 answered rightly, {found.served_after_the_flip} more served after the flip")  # noqa: T201
