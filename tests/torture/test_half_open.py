"""A thousand callers at four servers come to a half-open circuit at once: one call reaches the upstream, each round.

The probe ends well, badly, or not at all, because its server is killed.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.valkeys import Server

from .probing import LEASE_SECONDS, Probing, four

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
ROUNDS = max(2, round(10 * SCALE))
CALLERS = 1_000

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]


def test_one_of_a_thousand_callers_at_four_servers_reaches_the_upstream(tmp_path: Path, own_valkey: Server) -> None:
    async def rounds(probing: Probing) -> list[int]:
        await probing.open()
        found = [await probing.burst(CALLERS, heals=False) for _ in range(ROUNDS)]
        return [*found, await probing.burst(CALLERS, heals=True)]

    with four(tmp_path, own_valkey) as probing:
        reached = asyncio.run(rounds(probing))
        print(f"\n{CALLERS} callers at 4 servers, calls that reached the upstream in each round: {reached}")  # noqa: T201
        assert reached == [1] * (ROUNDS + 1)
        # Nobody was refused by a server that had lost the store, and judged alone.
        assert all(server.metric("toolwright_limits_store_up") == 1 for server in probing.servers.values())


def test_a_probe_whose_server_is_killed_makes_room_for_one_more_when_its_lease_ends(
    tmp_path: Path, own_valkey: Server
) -> None:
    async def killed(probing: Probing) -> list[int]:
        await probing.open()
        found = [await probing.burst(CALLERS, heals=False, kill=True)]
        await asyncio.sleep(LEASE_SECONDS)
        return [*found, await probing.burst(CALLERS, heals=True)]

    with four(tmp_path, own_valkey) as probing:
        reached = asyncio.run(killed(probing))
        print(f"\nwith the probe's server killed: {reached}")  # noqa: T201 (the long run's product)
        assert len(probing.servers) == 3
        assert reached == [1, 1]
