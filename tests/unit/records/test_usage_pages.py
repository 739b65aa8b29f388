"""Pages of usage: together they are the whole, of one period, and other calls go on while many rows are ranked."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

import pytest

from toolwright.v1 import usage_pb2 as pb
from toolwright_server.errors import ToolwrightError
from toolwright_server.identity import Caller, Role
from toolwright_server.records.usage import wire
from toolwright_server.records.usage.model import COUNTS, PART_ROWS, Dimension, Figures, Group, Order, UsageQuery
from toolwright_server.records.usage.usage import Answer, Asked, Usage

pytestmark = pytest.mark.asyncio

ADMIN = Caller("main", "key-4", "ada", Role.ADMIN)
ROWS = 20 * PART_ROWS + 7
HOUR = 3_600


class Filled:
    """A UsageStore with a row for each of many agents, in no order."""

    async def summed(self, query: UsageQuery) -> Mapping[Group, Figures]:
        calls = {f"a{number * 7_919 % ROWS:05}": number % 90 for number in range(ROWS)}
        return {(agent,): Figures([count, *[0] * (len(COUNTS) - 1)]) for agent, count in calls.items()}


class Clock:
    now = 1_000.0 * HOUR

    def __call__(self) -> float:
        return self.now


def asked(limit: int = ROWS, order: Order = Order.MOST_CALLS) -> Asked:
    return Asked(limit=limit, dimensions=(Dimension.AGENT,), order=order)


def names(answer: Answer) -> list[object]:
    return [row.group[0] for row in answer.rows]


@pytest.mark.parametrize("order", [Order.DIMENSIONS, Order.MOST_CALLS])
@pytest.mark.parametrize("size", [PART_ROWS - 1, PART_ROWS, 1_000])
async def test_pages_together_are_the_whole_in_its_order(size: int, order: Order) -> None:
    usage = Usage(Filled(), lambda _: [])
    question, found = asked(size, order), list[object]()
    while answer := await usage.query(question, ADMIN):
        assert len(answer.rows) <= size
        if not answer.rows:
            break
        found += names(answer)
        question = replace(question, behind=answer.rows[-1].place)
    rows = (await Filled().summed(UsageQuery(dimensions=(), since=0, until=1))).items()
    key = {Order.DIMENSIONS: 0, Order.MOST_CALLS: 1}[order]
    assert found == [group[0] for group, _ in sorted(rows, key=lambda row: (-row[1].calls * key, row[0]))]


async def test_other_calls_go_on_while_many_rows_are_ranked() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    going = asyncio.create_task(others())
    answer = await Usage(Filled(), lambda _: []).query(asked(10), ADMIN)
    going.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await going
    assert len(answer.rows) == 10
    assert turns >= ROWS // PART_ROWS


async def test_a_later_page_is_of_the_period_of_the_first_however_late_it_is_asked_for() -> None:
    clock = Clock()
    usage, request = Usage(Filled(), lambda _: [], clock), pb.QueryUsageRequest(group_by=[pb.USAGE_DIMENSION_AGENT])
    first = await usage.query(wire.asked(request, 11, ""), ADMIN)
    assert (first.since, first.until) == (1_000 - 7 * 24, 1_000)
    clock.now += 5 * HOUR
    second = await usage.query(wire.asked(request, 11, wire.place(first, first.rows[9])), ADMIN)
    assert (second.since, second.until) == (first.since, first.until)
    assert names(second)[0] == names(first)[10]


@pytest.mark.parametrize(
    "start",
    [
        "x",
        "null",
        "7",
        "[1]",
        "{}",
        '["1",2,0.0,"a"]',
        "[0,1000000000,0.0]",
        "[-1000000000,5,0.0]",
        '[0,5,"a"]',
        "[0,5,[]]",
    ],
)
async def test_what_is_no_place_is_refused(start: str) -> None:
    request = pb.QueryUsageRequest(group_by=[pb.USAGE_DIMENSION_AGENT])
    with pytest.raises(ToolwrightError, match="page_token"):
        await Usage(Filled(), lambda _: []).query(wire.asked(request, 11, start), ADMIN)
