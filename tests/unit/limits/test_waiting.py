"""Calls that wait for a place, and those that never do."""

import asyncio

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.limits.limiter import Asked
from toolwright_server.limits.rulefile import parse

from .house import LONG, RULES, House, settled

pytestmark = pytest.mark.asyncio


async def test_too_many_at_once_are_refused_at_once_when_they_may_not_wait(house: House) -> None:
    await house.call()
    await house.call()
    failure = await house.refused()
    assert failure.reason is Reason.CONCURRENCY_LIMITED
    assert failure.user_message == "2 calls may run at once, and that many are running; try again in a moment"
    assert failure.metadata["rule"] == "user-running"
    assert failure.metadata["used"] == "2"
    assert failure.metadata["outcome"] == "not_started"
    assert failure.quota[0].subject == "user ada"
    assert failure.retry_delay is not None
    assert failure.retry_delay > 0
    # A refusal takes nothing.
    assert (await house.used())["browsing"] == 2


async def test_a_call_waits_for_a_place_and_gets_it_when_one_ends(house: House) -> None:
    first, _ = await house.call(), await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    assert not waiting.done()
    assert house.line.waiting == 1
    first.release()
    assert (await waiting).token == "call-3"
    assert house.line.waiting == 0


async def test_who_comes_later_does_not_overtake_who_waits(house: House) -> None:
    first, _ = await house.call(), await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    first.release()
    later = asyncio.create_task(house.call(wait=LONG))
    assert (await waiting).token == "call-3"
    await settled()
    assert not later.done()
    (await waiting).release()
    assert (await later).token == "call-4"


async def test_a_call_whose_time_is_up_in_the_line_is_refused(house: House) -> None:
    await house.call()
    await house.call()
    failure = await house.refused(wait=0.005)
    assert failure.reason is Reason.CONCURRENCY_LIMITED
    assert "none ended in time" in failure.message
    assert house.line.waiting == 0
    assert (await house.used())["user-running"] == 2


async def test_a_call_that_is_cancelled_in_the_line_leaves_nothing_behind(house: House) -> None:
    first, _ = await house.call(), await house.call()
    waiting, next_one = asyncio.create_task(house.call(wait=LONG)), asyncio.create_task(house.call(wait=LONG))
    await settled()
    waiting.cancel()
    first.release()
    assert (await next_one).token == "call-4"
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await house.used()) == {"browsing": 3, "user-running": 2, "tool-running": 2}


async def test_a_full_line_refuses_at_once() -> None:
    house = House(queue=1)
    await house.call()
    await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    failure = await house.refused(wait=LONG)
    assert failure.reason is Reason.CONCURRENCY_LIMITED
    assert "as many wait as may" in failure.message
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_quiet_tenant_finds_room_in_the_line_that_another_has_filled() -> None:
    house = House(queue=2)
    for tenant in ("loud", "quiet"):
        await house.call(tenant=tenant)
        ends = await house.call(tenant=tenant)
    loud = [asyncio.create_task(house.call(tenant="loud", wait=LONG)) for _ in range(2)]
    await settled()
    quiet = asyncio.create_task(house.call(tenant="quiet", wait=LONG))
    with pytest.raises(ToolwrightError) as shed:
        await loud[1]
    assert shed.value.failure.reason is Reason.CONCURRENCY_LIMITED
    ends.release()
    assert (await quiet).token
    loud[0].cancel()
    await asyncio.wait(loud)


async def test_a_rate_that_is_used_up_meanwhile_refuses_who_waited(house: House) -> None:
    house.rulebook.replace(parse(RULES.replace("limit = 30", "limit = 3"), "limits.toml", None))
    first, _ = await house.call(), await house.call()
    waiting = [asyncio.create_task(house.call(wait=LONG)) for _ in range(2)]
    await settled()
    first.release()
    assert (await waiting[0]).token == "call-3"
    with pytest.raises(ToolwrightError) as refused:
        await waiting[1]
    assert refused.value.failure.reason is Reason.RATE_LIMITED
    assert house.line.waiting == 0


async def test_a_place_of_a_tool_is_waited_for_like_one_of_a_user(house: House) -> None:
    ada = [await house.call() for _ in range(2)]
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    bob = await house.call("bob")
    ada[0].release()
    assert (await waiting).token
    carl = asyncio.create_task(house.call("carl", wait=LONG))
    await settled()
    assert not carl.done()
    bob.release()
    assert (await carl).token


async def test_nested_calls_take_no_place_of_their_root_and_one_more_of_a_tool(house: House) -> None:
    roots = [await house.call(), await house.call(), await house.call("bob")]
    await house.refused("carl")
    nested = await house.call(nested=True)
    assert [check.rule for check in nested.checks] == ["browsing", "tool-running"]
    failure = await house.refused(nested=True)
    assert failure.metadata["rule"] == "tool-running"
    for each in (*roots, nested):
        each.release()


async def test_nested_calls_do_not_stand_behind_those_who_wait(house: House) -> None:
    for user in ("ada", "bob", "carl"):
        await house.call(user)
    waiting = asyncio.create_task(house.call("dora", wait=LONG))
    await settled()
    assert (await house.call(nested=True)).token
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_raised_limits_let_in_who_waits(house: House) -> None:
    await house.call()
    await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    house.rulebook.replace(parse(RULES.replace("limit = 2", "limit = 5"), "limits.toml", None))
    assert (await waiting).token == "call-3"


async def test_who_waits_for_a_limit_that_is_no_more_is_let_in(house: House) -> None:
    await house.call()
    await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    house.rulebook.replace(parse("ready_made = false", "limits.toml", None))
    assert (await waiting).checks == ()


async def test_places_that_come_free_on_another_server_are_found() -> None:
    house = House(shared=True, poll=0.002)
    for number in range(2):
        house.memory.take_now(
            house.limiter.checks_for(Asked("acme", "ada", "browser.open", "browser")), f"theirs-{number}"
        )
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    assert not waiting.done()
    house.memory.release_now((), "theirs-0")
    assert (await asyncio.wait_for(waiting, LONG)).token
