"""Figures of usage in memory: bounded, whatever callers name, and the oldest go first, one by one."""

import pytest

from toolwright_server.records.usage.model import COUNTS, Dimension, UsageQuery, Use
from toolwright_server.stores.memory.usage import MemoryUsage

pytestmark = pytest.mark.asyncio

ONCE = tuple(int(name == "succeeded") for name in COUNTS)


def use(hour: int, agent: str) -> Use:
    return Use(hour, "acme", "ann", agent, "t", "", 0, ONCE, None)


async def kept(usage: MemoryUsage) -> list[tuple[str | int, ...]]:
    found = await usage.summed(UsageQuery(dimensions=(Dimension.HOUR, Dimension.AGENT), since=0, until=100))
    assert all(figures.calls == 1 for figures in found.values())
    return list(found)


async def test_of_many_rows_of_one_hour_the_last_are_kept() -> None:
    usage = MemoryUsage(rows_kept=3)
    for number in range(1_000):
        usage.count(use(7, f"a{number}"))
    assert await kept(usage) == [(7, "a997"), (7, "a998"), (7, "a999")]


async def test_one_row_more_drops_one_row_and_never_itself() -> None:
    usage = MemoryUsage(rows_kept=3)
    for hour, agent in ((7, "a"), (7, "b"), (8, "c")):
        usage.count(use(hour, agent))
    # A call of an earlier hour that has ended late.
    usage.count(use(5, "late"))
    assert await kept(usage) == [(7, "b"), (8, "c"), (5, "late")]
