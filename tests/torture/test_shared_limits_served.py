"""The shared store of limits is killed, frozen and started below servers that are called: the long form, with figures.

Rules that are open, closed and local each do what they say, no call hangs, and all is shared again by itself.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.valkeys import Server
from toolwright_server.limits.model import Fail

from .judging import assert_kept_its_word, figures, wrong
from .limiting import Fault, frozen, killed
from .sharing import Pair, absent, back, crowd, pair

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
ROUNDS = max(2, round(15 * SCALE))

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]


async def weather(servers: Pair, fault: Fault) -> None:
    """Long faults, which are noticed, and between them short ones, which may not be."""
    chance = random.Random(SEED)
    await back(servers)
    async with crowd(servers, SEED):
        for _ in range(ROUNDS):
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            await absent(servers, fault, chance.uniform(1.5, 3.0))
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            await fault(servers.store, chance.choice((0.005, 0.02, 0.1)))
            await back(servers)
        await asyncio.sleep(1.5)


@pytest.mark.parametrize("fault", [killed, frozen], ids=lambda fault: fault.__name__)
def test_rules_keep_their_word_while_the_store_of_two_servers_comes_and_goes(
    tmp_path: Path, own_valkey: Server, fault: Fault
) -> None:
    with pair(tmp_path, own_valkey) as servers:
        asyncio.run(weather(servers, fault))
        found = wrong(servers, remembers=fault is frozen)
        seen = figures(f"{fault.__name__}, seed {SEED}", servers)
        assert not found, f"seed {SEED}: {len(found)} things are wrong, among them:\n" + "\n".join(found[:20])
        assert min(seen["absences"]) >= ROUNDS
        assert_kept_its_word(servers, seen)


def test_servers_that_start_without_their_store_share_it_when_it_comes(tmp_path: Path, own_valkey: Server) -> None:
    own_valkey.kill()
    with pair(tmp_path, own_valkey) as servers:

        async def late() -> None:
            async with crowd(servers, SEED):
                await asyncio.sleep(2.0)
                assert servers.down()
                await asyncio.to_thread(own_valkey.start)
                await back(servers)
                await asyncio.sleep(2.0)

        asyncio.run(late())
        found = wrong(servers, remembers=False)
        seen = figures("started later", servers)
        # Until then each knows of no other, so that there is nothing to divide.
        found = [line for line in found if "alone" not in line]
        assert not found, "\n".join(found[:20])
        assert "RATE_LIMITED" in seen["shared"]["answers"][Fail.CLOSED]
