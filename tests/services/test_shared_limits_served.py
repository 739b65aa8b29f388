"""A sample of what tests/torture/test_shared_limits_served.py does at length: servers whose shared store goes away."""

import asyncio
from pathlib import Path

import pytest

from tests.torture.judging import assert_kept_its_word, figures, wrong
from tests.torture.limiting import frozen, killed
from tests.torture.sharing import absent, back, crowd, pair
from tests.valkeys import Server

pytestmark = pytest.mark.slow


def test_a_store_that_is_frozen_and_killed_under_load_leaves_each_rule_to_its_word(
    tmp_path: Path, own_valkey: Server
) -> None:
    with pair(tmp_path, own_valkey) as servers:

        async def weather() -> None:
            await back(servers)
            async with crowd(servers, seed=4):
                for fault in (frozen, killed):
                    await asyncio.sleep(0.5)
                    await absent(servers, fault, 1.2)

        asyncio.run(weather())
        assert not wrong(servers, remembers=False)
        seen = figures("sample", servers)
        assert min(seen["absences"]) >= 2
        assert_kept_its_word(servers, seen)
