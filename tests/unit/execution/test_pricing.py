"""Prices in the corridor: what is held and charged, what a tenant pays, what a call or a task may not cost."""

import asyncio
from typing import Any

import pytest

from toolwright_server.catalog.context import AsyncToolContext
from toolwright_server.catalog.model import Effect
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.credits import MICROS
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.events import Warned
from toolwright_server.execution.model import LimitWarning, State
from toolwright_server.identity import ANONYMOUS
from toolwright_server.limits.rules import CostLimits, Rules, Tier

from .corridor import invocation
from .house import PATIENCE, House

pytestmark = pytest.mark.asyncio

READ, SIDE = Effect.READ_ONLY, Effect.SIDE_EFFECT


def costing(call: int, task: int, *, shadow: bool = False) -> Rules:
    """Only what may be spent, in credits."""
    return Rules((), dict.fromkeys(Tier, CostLimits(call * MICROS, task * MICROS, shadow=shadow)))


async def refusal(house: House, name: str, **facts: Any) -> Failure:
    with pytest.raises(ToolwrightError) as caught:
        await asyncio.wait_for(house.begin(name, **facts), PATIENCE)
    assert caught.value.failure.metadata["outcome"] == "not_started"
    return caught.value.failure


async def work() -> int:
    return 1


@pytest.mark.parametrize("effect", list(Effect))
async def test_a_call_costs_the_price_of_its_tool(house: House, effect: Effect) -> None:
    house.tool(work, effect, price=5)
    execution = await house.run("work")
    assert (execution.state, execution.cost_micros, execution.held_micros) == (State.SUCCEEDED, 5 * MICROS, 0)


async def test_a_tenant_may_have_a_price_of_its_own(house: House) -> None:
    house.tool(work, price=5)
    settings = ToolSettings(tenant=ANONYMOUS.tenant, tool="tests.work", revision=1, price_micros=7)
    house.executor._catalog.tenants.adopt([settings])  # pyright: ignore[reportPrivateUsage]
    assert (await house.run("work")).cost_micros == 7


async def test_what_fails_costs_nothing_and_what_was_reported_is_charged(house: House) -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def reports(context: AsyncToolContext) -> None:
        context.charge(3 * MICROS)
        raise ValueError("no")

    house.tool(fails, price=5)
    house.tool(reports, price_max=5)
    assert (await house.run("fails")).cost_micros == 0
    assert (await house.run("reports")).cost_micros == 3 * MICROS


async def test_a_call_that_costs_more_than_any_may_is_refused_and_leaves_no_record(house: House) -> None:
    house.rules = costing(4, 100)
    house.tool(work, price=5)
    failure = await refusal(house, "work")
    assert (failure.reason, failure.metadata["scope"]) == (Reason.BUDGET_EXCEEDED, "call")
    assert len(house.store) == 0


async def test_a_call_may_allow_itself_less(house: House) -> None:
    house.tool(work, price=5)
    assert (await refusal(house, "work", max_cost_micros=5 * MICROS - 1)).reason is Reason.BUDGET_EXCEEDED
    assert (await house.run("work", max_cost_micros=5 * MICROS)).state is State.SUCCEEDED


async def test_all_calls_of_a_task_share_its_budget_and_are_warned_before_it_ends(house: House) -> None:
    house.rules = costing(100, 10)
    house.tool(work, price=2)
    seen = [await house.run("work", task_id="one") for _ in range(5)]
    warned = [each.warnings for each in seen]
    assert warned[:3] == [(), (), ()]
    (four,), (five,) = warned[3], warned[4]
    assert four == LimitWarning("task_cost", "one", 80, 8 * MICROS, 10 * MICROS)
    assert five.threshold_percent == 95
    assert Warned(four) in house.happenings(seen[3])
    failure = await refusal(house, "work", task_id="one")
    assert (failure.reason, failure.metadata["scope"]) == (Reason.BUDGET_EXCEEDED, "task")
    assert (await house.run("work", task_id="another")).state is State.SUCCEEDED


async def test_a_step_counts_for_the_task_of_its_root(house: House) -> None:
    async def root(context: AsyncToolContext) -> None:
        for _ in range(3):
            await context.call("tests.work")

    house.rules = costing(100, 4)
    house.tool(work, price=2)
    house.tool(root)
    execution = await house.run("root")
    assert execution.failure is not None
    assert execution.failure.metadata["nested_reason"] == "BUDGET_EXCEEDED"


async def test_budgets_in_shadow_refuse_nothing(house: House) -> None:
    house.rules = costing(1, 1, shadow=True)
    house.tool(work, price=2)
    assert (await house.run("work")).cost_micros == 2 * MICROS
    assert (await refusal(house, "work", max_cost_micros=0)).reason is Reason.BUDGET_EXCEEDED


async def test_a_repeated_call_is_answered_although_it_allows_itself_less_now(house: House) -> None:
    house.tool(work, price=5)
    first = await house.run("work", request_id="one")
    asked = invocation("tests.work", request_id="one", max_cost_micros=0)
    again = await outlast(await house.executor.execute(asked), asked)
    assert (again.execution_id, again.cost_micros) == (first.execution_id, 5 * MICROS)
