"""A call's counters lie together in a cluster, and whoever has them is asked."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.shared_limits import opened
from tests.valkeys import Server
from toolwright_server.limits.model import Check, Kind

pytestmark = pytest.mark.asyncio

TENANTS = [f"tenant-{n}" for n in range(30)]


def checks_of(tenant: str) -> tuple[Check, ...]:
    return (
        Check("w", f"{{{tenant}}}:u:ann:browser", Kind.WINDOW, 5, "ann", 60.0),
        Check("t", f"{{{tenant}}}:t:crm.find", Kind.WINDOW, 50, tenant, 1.0, shadow=True),
        Check("d", f"{{{tenant}}}:u:ann:day", Kind.DAY, 100, "ann"),
        Check("m", f"{{{tenant}}}:month", Kind.MONTH, 1_000, tenant),
        Check("r", f"{{{tenant}}}:u:ann:running", Kind.RUNNING, 5, "ann"),
    )


def keys_of(server: Server) -> Sequence[str]:
    return [key.decode() for key in server.run("KEYS", "*")]


async def test_each_tenants_calls_are_counted_by_the_server_that_has_its_slot(valkey_cluster: list[Server]) -> None:
    for server in valkey_cluster:
        server.run("FLUSHALL")
    async with opened(valkey_cluster[0], name="one") as one, opened(valkey_cluster[1], name="two") as two:
        for tenant in TENANTS:
            checks = checks_of(tenant)
            takings = await asyncio.gather(*((one, two)[n % 2].take(checks, f"{tenant}-{n}") for n in range(10)))
            assert sum(taking.refused is None for taking in takings) == 5
            await one.release(checks, f"{tenant}-0")
            await two.give_back(checks, f"{tenant}-1")
        for tenant in TENANTS:
            checks = checks_of(tenant)
            found = [[reading.used for reading in await store.read(checks)] for store in (one, two)]
            assert found[0] == found[1]
            assert found[0][0] in (4, 5)
        # Each of them has some, and together they are asked by both.
        assert all(keys_of(server) for server in valkey_cluster)
        assert two.servers == 2
        assert one.is_up
        assert one.timeouts + two.timeouts == 0


async def test_a_slot_that_moves_is_followed(valkey_cluster: list[Server]) -> None:
    for server in valkey_cluster:
        server.run("FLUSHALL")
    tenant = "moving"
    checks = checks_of(tenant)
    slot = valkey_cluster[0].run("CLUSTER", "KEYSLOT", f"tw:{checks[0].key}")
    async with opened(valkey_cluster[0]) as store:
        await store.take(checks, "before")
        (owner,) = [server for server in valkey_cluster if any(tenant in key for key in keys_of(server))]
        heir = next(server for server in valkey_cluster if server is not owner)
        owner.run("FLUSHALL")
        name = heir.run("CLUSTER", "MYID").decode()
        for server in (heir, owner, *valkey_cluster):
            server.run("CLUSTER", "SETSLOT", slot, "NODE", name)
        taking = await store.take(checks, "after")
        assert (taking.refused, list(taking.used or ())) == (None, [1, 1, 1, 1, 1])
        assert any(tenant in key for key in keys_of(heir))
