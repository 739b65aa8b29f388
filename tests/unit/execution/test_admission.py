"""Limits in the corridor: what a call takes, what it gives back, and who is answered although nothing is left."""

import asyncio
from typing import Any

import pytest

from toolwright_server.catalog.model import Effect
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.backend import NotSent, Work
from toolwright_server.execution.model import State
from toolwright_server.identity import ANONYMOUS
from toolwright_server.limits.model import Kind
from toolwright_server.limits.rules import CostLimits, Per, Rule, Rules, Slot, Tier

from .corridor import invocation
from .house import PATIENCE, House

pytestmark = pytest.mark.asyncio

READ, SIDE = Effect.READ_ONLY, Effect.SIDE_EFFECT


def allowing(kind: Kind, limit: int, per: Per = Per.USER) -> Rules:
    """One rule."""
    slot = Slot(kind, per, 60.0 if kind is Kind.WINDOW else 0.0)
    return Rules((Rule("only", slot, dict.fromkeys(Tier, limit)),), {tier: CostLimits(0, 0) for tier in Tier})


async def refusal(house: House, name: str, **facts: Any) -> Failure:
    with pytest.raises(ToolwrightError) as caught:
        await asyncio.wait_for(house.begin(name, **facts), PATIENCE)
    return caught.value.failure


async def quick() -> int:
    return 1


async def test_a_call_beyond_the_rate_is_refused_before_anything_is_recorded(house: House) -> None:
    house.rules = allowing(Kind.WINDOW, 2)
    house.tool(quick)
    for _ in range(2):
        assert (await house.run("quick")).state is State.SUCCEEDED
    kept = len(house.store)
    failure = await refusal(house, "quick")
    assert (failure.reason, failure.metadata["outcome"]) == (Reason.RATE_LIMITED, "not_started")
    assert len(house.store) == kept


async def test_a_call_waits_for_a_place_until_another_has_ended(house: House) -> None:
    go = asyncio.Event()

    async def slow() -> int:
        await go.wait()
        return 1

    house.rules = allowing(Kind.RUNNING, 1)
    house.tool(slow)
    first = await house.begin("slow")
    second = asyncio.create_task(house.begin("slow"))
    await asyncio.sleep(0)
    assert not second.done()
    go.set()
    assert await first.ended(PATIENCE)
    flight = await asyncio.wait_for(second, PATIENCE)
    assert await flight.ended(PATIENCE)
    assert flight.execution.state is State.SUCCEEDED


async def test_who_waits_for_a_place_waits_only_within_the_deadline(house: House) -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    house.rules = allowing(Kind.RUNNING, 1)
    house.tool(slow)
    first = await house.begin("slow")
    failure = await refusal(house, "slow", timeout=0.05)
    assert failure.reason is Reason.CONCURRENCY_LIMITED
    assert not first.finished


async def test_a_repeated_call_is_answered_although_nothing_is_left_of_the_limit(house: House) -> None:
    house.rules = allowing(Kind.WINDOW, 1)
    house.tool(quick, SIDE)
    first = await house.run("quick", request_id="one")
    asked = invocation("tests.quick", request_id="one")
    again = await outlast(await house.executor.execute(asked), asked)
    assert again.execution_id == first.execution_id
    assert (await refusal(house, "quick", request_id="two")).reason is Reason.RATE_LIMITED


async def test_a_repeated_call_costs_nothing(house: House) -> None:
    house.rules = allowing(Kind.WINDOW, 2)
    house.tool(quick, SIDE)
    await house.run("quick", request_id="one")
    for _ in range(5):
        asked = invocation("tests.quick", request_id="one")
        await outlast(await house.executor.execute(asked), asked)
    assert (await house.run("quick", request_id="two")).state is State.SUCCEEDED


async def test_joining_a_call_that_runs_takes_no_place(house: House) -> None:
    go = asyncio.Event()

    async def slow() -> int:
        await go.wait()
        return 1

    house.rules = allowing(Kind.RUNNING, 1)
    house.tool(slow, SIDE)
    first = await house.begin("slow", request_id="one")
    asked = invocation("tests.slow", request_id="one")
    joined = await asyncio.wait_for(house.executor.execute(asked), PATIENCE)
    assert joined is first
    go.set()
    assert await first.ended(PATIENCE)


async def test_what_was_never_started_costs_nothing(house: House) -> None:
    async def refuse(work: Work) -> bytes:
        del work
        raise NotSent(Failure(Reason.UPSTREAM_UNAVAILABLE, "gone", retryable=False))

    house.rules = allowing(Kind.WINDOW, 1)
    house.remote(refuse)
    for _ in range(3):
        assert (await house.run("remote")).state is State.REJECTED


async def test_a_call_that_cannot_be_recorded_costs_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise ToolwrightError(Reason.STORE_UNAVAILABLE, "away")

    house.rules = allowing(Kind.WINDOW, 1)
    house.tool(quick, SIDE)
    with monkeypatch.context() as patch:
        patch.setattr(house.store, "add", away)
        for _ in range(3):
            assert (await refusal(house, "quick")).reason is Reason.STORE_UNAVAILABLE
    assert (await house.run("quick")).state is State.SUCCEEDED


@pytest.mark.parametrize("end", ["answers", "fails", "is cancelled"])
async def test_a_place_is_free_again_however_its_call_ends(house: House, end: str) -> None:
    async def ends(how: str) -> int:
        if how == "fails":
            raise ValueError(how)
        if how == "is cancelled":
            await asyncio.Event().wait()
        return 1

    house.rules = allowing(Kind.RUNNING, 1)
    house.tool(ends)
    for _ in range(3):
        await house.run("ends", {"how": end}, timeout=0.02 if end == "is cancelled" else None)


async def test_a_nested_call_takes_no_place_of_its_user_and_never_waits(house: House) -> None:
    async def inner() -> int:
        return 1

    house.rules = allowing(Kind.RUNNING, 1)
    house.tool(inner)
    flight = await house.begin("inner", depth=1)
    assert await flight.ended(PATIENCE)
    assert flight.execution.state is State.SUCCEEDED


async def test_a_tenant_may_set_a_limit_of_its_own_for_a_tool(house: House) -> None:
    house.tool(quick)
    settings = ToolSettings(tenant=ANONYMOUS.tenant, tool="tests.quick", revision=1, limits={"window": 1})
    house.executor._catalog.tenants.adopt([settings])  # pyright: ignore[reportPrivateUsage]
    assert (await house.run("quick")).state is State.SUCCEEDED
    failure = await refusal(house, "quick")
    assert (failure.reason, failure.metadata["rule"]) == (Reason.RATE_LIMITED, "tool-settings")
