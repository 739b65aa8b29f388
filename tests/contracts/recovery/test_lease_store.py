import asyncio

import pytest

from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.stores.sql.change import Fenced

from .servers import LEASE_SECONDS, Servers, SqlServers, left_behind

pytestmark = pytest.mark.asyncio


async def test_a_registered_lease_can_be_renewed(survivors: Servers) -> None:
    one = await survivors.server("one")
    assert not await one.leases.renew(one.own, LEASE_SECONDS)
    await one.leases.register(one.own, LEASE_SECONDS)
    assert await one.leases.renew(one.own, LEASE_SECONDS)


async def test_only_leases_of_others_that_ran_out_are_expired(survivors: Servers) -> None:
    one, two, three = [await survivors.server(name) for name in ("one", "two", "three")]
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
    await survivors.pass_time(LEASE_SECONDS + 1)
    await three.leases.register(three.own, LEASE_SECONDS)
    assert await one.leases.expired(one.own) == [two.own]
    assert sorted(lease.server_id for lease in await three.leases.expired(three.own)) == ["one", "two"]


async def test_a_renewed_lease_is_not_expired(survivors: Servers) -> None:
    one, two = await survivors.server("one"), await survivors.server("two")
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
    await survivors.pass_time(LEASE_SECONDS - 1)
    assert await two.leases.renew(two.own, LEASE_SECONDS)
    await survivors.pass_time(2)
    assert await one.leases.expired(one.own) == []
    assert not await one.leases.end(two.own)
    assert await two.leases.renew(two.own, LEASE_SECONDS)


async def test_a_lease_that_ran_out_holds_again_when_nobody_ended_it(survivors: Servers) -> None:
    one, two = await survivors.server("one"), await survivors.server("two")
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
    await survivors.pass_time(10 * LEASE_SECONDS)
    assert await two.leases.renew(two.own, LEASE_SECONDS)
    assert await one.leases.expired(one.own) == []


async def test_an_ended_lease_is_lost_and_ended_once(survivors: Servers) -> None:
    one, two = await survivors.server("one"), await survivors.server("two")
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
    await survivors.pass_time(LEASE_SECONDS + 1)
    assert await one.leases.renew(one.own, LEASE_SECONDS)
    assert await one.leases.end(two.own)
    assert not await one.leases.end(two.own)
    assert not await two.leases.renew(two.own, LEASE_SECONDS)
    assert await one.leases.expired(one.own) == []


async def test_of_many_survivors_one_ends_a_lease(survivors: Servers) -> None:
    dead = await survivors.server("dead")
    await dead.leases.register(dead.own, LEASE_SECONDS)
    await survivors.pass_time(LEASE_SECONDS + 1)
    others = [await survivors.server(f"survivor-{number}") for number in range(4)]
    for each in others:
        await each.leases.register(each.own, LEASE_SECONDS)
    ended = await asyncio.gather(*(each.leases.end(dead.own) for each in others))
    assert sum(ended) == 1


async def test_the_next_process_of_a_name_ends_the_lease_of_the_one_before(survivors: Servers) -> None:
    before, after = await survivors.server("one", 1), await survivors.server("one", 2)
    await before.leases.register(before.own, LEASE_SECONDS)
    await after.leases.register(after.own, LEASE_SECONDS)
    assert not await before.leases.renew(before.own, LEASE_SECONDS)
    assert await after.leases.renew(after.own, LEASE_SECONDS)


async def test_a_released_lease_is_gone_and_another_process_keeps_its_own(survivors: Servers) -> None:
    before, after = await survivors.server("one", 1), await survivors.server("one", 2)
    await before.leases.register(before.own, LEASE_SECONDS)
    await after.leases.register(after.own, LEASE_SECONDS)
    await before.leases.release(before.own)
    assert await after.leases.renew(after.own, LEASE_SECONDS)
    await after.leases.release(after.own)
    assert not await after.leases.renew(after.own, LEASE_SECONDS)


async def test_a_lease_is_held_until_it_is_ended_or_given_back(survivors: Servers) -> None:
    one, two = await survivors.server("one"), await survivors.server("two")
    assert not await one.leases.is_held("two")
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
    await survivors.pass_time(LEASE_SECONDS + 1)
    assert await one.leases.is_held("two")
    assert await one.leases.renew(one.own, LEASE_SECONDS)
    assert await one.leases.end(two.own)
    assert (await one.leases.is_held("one"), await one.leases.is_held("two")) == (True, False)
    await one.leases.release(one.own)
    assert not await two.leases.is_held("one")


# Whoever shares a process with the store cannot outlive its own lease in ignorance.
@pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
async def test_a_server_whose_lease_was_ended_writes_nothing_any_more(survivors: Servers) -> None:
    one, two = await survivors.server("one"), await survivors.server("two")
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
    await two.add(left_behind(two, "0190-before"))
    await survivors.pass_time(LEASE_SECONDS + 1)
    assert await one.leases.end(two.own)
    with pytest.raises(Fenced):
        await two.add(left_behind(two, "0190-after"))
    assert not await two.leases.end(one.own)
    assert await one.verdicts.decide("0190-before", lambda _: None) is not None
    assert await one.verdicts.decide("0190-after", lambda _: None) is None


async def test_who_has_a_file_to_itself_takes_all_others_for_dead(lone_servers: SqlServers) -> None:
    one, two = await lone_servers.server("one"), await lone_servers.server("two")
    await one.leases.register(one.own, LEASE_SECONDS)
    await two.leases.register(two.own, LEASE_SECONDS)
    assert not await one.leases.renew(one.own, LEASE_SECONDS)
    assert await two.leases.renew(two.own, LEASE_SECONDS)
    assert await two.leases.expired(Lease("nobody", 1)) == []
