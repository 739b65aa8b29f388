"""Figures of usage, as every store keeps them: each execution that has ended counts once, for the hour of its call."""

import asyncio
from typing import Any

import pytest

from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.model import Execution, Source, State
from toolwright_server.identity import Caller
from toolwright_server.records.usage.latency import bucket
from toolwright_server.records.usage.model import Dimension, Figures, Group, UsageQuery

from .conftest import Kept, MakeStore
from .executions import refused, row, settled

pytestmark = pytest.mark.asyncio

HOUR = 3_600.0
BOB = Caller("acme", "key-2", "bob")
ZOE = Caller("zenith", "key-3", "zoe")


async def ended(kept: Kept, execution: Execution, state: State, **facts: Any) -> None:
    await kept.store.add(execution)
    execution.move(State.RUNNING)
    execution.attempts = 1
    for name, value in facts.items():
        setattr(execution, name, value)
    execution.move(state)
    execution.end_time = execution.create_time + 1
    if state is not State.SUCCEEDED:
        execution.failure = Failure(Reason.TOOL_FAILED, "no")
    await kept.store.settle(execution)


async def summed(kept: Kept, *dimensions: Dimension, since: int = 0, until: int = 100, **more: str) -> Any:
    return await kept.usage.summed(UsageQuery(dimensions=dimensions, since=since, until=until, **more))


async def calls(kept: Kept, *dimensions: Dimension, **more: Any) -> dict[Group, int]:
    return {group: figures.calls for group, figures in (await summed(kept, *dimensions, **more)).items()}


async def filled(kept: Kept) -> None:
    """Eight calls of three users, two tools and three hours, all but one under way at once."""
    await asyncio.gather(
        ended(kept, row("a", tool="crm.get", category="crm", agent_id="x", create_time=1 * HOUR), State.SUCCEEDED),
        ended(kept, row("b", tool="crm.get", category="crm", agent_id="x", create_time=1 * HOUR), State.FAILED),
        ended(kept, row("c", tool="crm.get", category="crm", create_time=1 * HOUR + 3_599), State.TIMED_OUT),
        ended(kept, row("d", tool="kb.find", category="kb", create_time=2 * HOUR), State.SUCCEEDED),
        ended(kept, row("e", tool="kb.find", category="kb", create_time=30 * HOUR, caller=BOB), State.CANCELLED),
        ended(kept, row("f", tool="kb.find", category="kb", create_time=30 * HOUR, caller=ZOE), State.OUTCOME_UNKNOWN),
        ended(kept, row("g", tool="kb.find", category="kb", create_time=30 * HOUR, server_id="b"), State.SUCCEEDED),
    )
    await ended(kept, row("h", tool="crm.get", category="crm", agent_id="x", create_time=1 * HOUR), State.SUCCEEDED)


async def test_sums_are_told_apart_by_every_dimension_and_filtered(make_store: MakeStore) -> None:
    kept = make_store()
    await filled(kept)
    assert await calls(kept) == {(): 8}
    assert await calls(kept, Dimension.TOOL) == {("crm.get",): 4, ("kb.find",): 4}
    assert await calls(kept, Dimension.CATEGORY) == {("crm",): 4, ("kb",): 4}
    assert await calls(kept, Dimension.TENANT) == {("acme",): 7, ("zenith",): 1}
    assert await calls(kept, Dimension.USER) == {("ann",): 6, ("bob",): 1, ("zoe",): 1}
    assert await calls(kept, Dimension.AGENT) == {("x",): 3, ("",): 5}
    assert await calls(kept, Dimension.DAY) == {(0,): 5, (1,): 3}
    assert await calls(kept, Dimension.HOUR) == {(1,): 4, (2,): 1, (30,): 3}
    assert await calls(kept, Dimension.DAY, Dimension.USER, Dimension.TOOL) == {
        (0, "ann", "crm.get"): 4,
        (0, "ann", "kb.find"): 1,
        (1, "ann", "kb.find"): 1,
        (1, "bob", "kb.find"): 1,
        (1, "zoe", "kb.find"): 1,
    }
    # Filters and the period leave the rest out.
    assert await calls(kept, tenant="acme", category="kb") == {(): 3}
    assert await calls(kept, Dimension.HOUR, tenant="acme", user="ann") == {(1,): 4, (2,): 1, (30,): 1}
    assert await calls(kept, Dimension.HOUR, tenant="acme", user="ann", since=2, until=30) == {(2,): 1}
    assert await calls(kept, Dimension.TOOL, agent="x") == {("crm.get",): 3}
    assert await calls(kept, Dimension.TOOL, user="bob") == {("kb.find",): 1}
    assert await calls(kept, Dimension.TOOL, tool="kb.find", until=30) == {("kb.find",): 1}
    assert await calls(kept, Dimension.TOOL, tenant="nobody") == {}


async def test_each_outcome_attempts_costs_sources_and_times_are_counted(make_store: MakeStore) -> None:
    kept = make_store()
    await ended(kept, row("a"), State.SUCCEEDED, attempts=3, queue_seconds=0.001, tool_seconds=0.019)
    await ended(kept, row("b", hold_micros=70), State.SUCCEEDED, queue_seconds=0.5, tool_seconds=1.5)
    await ended(kept, row("c"), State.SUCCEEDED, source=Source.CACHE, attempts=0)
    await ended(kept, row("d"), State.SUCCEEDED, source=Source.JOINED)
    await ended(kept, row("e"), State.SUCCEEDED, source=Source.FALLBACK)
    # Its server died: it says nothing about how long a call takes.
    await ended(kept, row("f"), State.OUTCOME_UNKNOWN)
    rejected = row("g")
    await kept.store.add(rejected)
    await refused(kept, rejected)
    await kept.store.add(row("h"))
    figures: Figures = (await summed(kept, Dimension.USER))["ann",]
    assert figures.latencies == {bucket(0.020): 1, bucket(2.0): 1, bucket(1.0): 3}
    found = {name: figures.of(name) for name in ("succeeded", "outcome_unknown", "rejected", "attempted", "attempts")}
    assert found == {"succeeded": 5, "outcome_unknown": 1, "rejected": 1, "attempted": 5, "attempts": 7}
    assert [figures.of(name) for name in ("cached", "joined", "fallbacks")] == [1, 1, 1]
    assert (figures.of("cost_micros"), figures.of("queue_micros"), figures.of("tool_micros")) == (
        70,
        3_501_000,
        1_519_000,
    )
    assert (await summed(kept))[()] == figures
    # What only runs is not counted, and what asked for a name that is taken neither.
    first, second = row("i", request_id="r"), row("j", request_id="r")
    await kept.store.add(first)
    assert await kept.store.add(second) is not None
    await settled(kept, first)
    assert await calls(kept) == {(): 8}
