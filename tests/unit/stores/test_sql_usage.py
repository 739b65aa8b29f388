"""Figures of usage in each database: that they agree with the history, whoever decides what, and what is erased."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from tests.contracts.executions import row
from tests.databases import database, database_url, postgres
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.recovery.verdict import Verdict
from toolwright_server.execution.usage import used
from toolwright_server.records.audit.model import Kind
from toolwright_server.records.usage.model import Dimension, Figures, Group, UsageQuery
from toolwright_server.stores.sql import rows, usage
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.migrations.versions import usage_0005  # pyright: ignore[reportMissingTypeStubs]
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.recovery import SqlRecovery
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import usage_by_tool, usage_by_user
from toolwright_server.stores.sql.usage import SqlUsage
from toolwright_server.stores.sql.writer import Writer, WriterOptions

__all__ = ["database", "database_url", "postgres"]

pytestmark = pytest.mark.asyncio

DAY = 86_400.0
NOW = 500 * DAY
EVERYTHING = (Dimension.HOUR, Dimension.TENANT, Dimension.USER, Dimension.AGENT, Dimension.TOOL, Dimension.CATEGORY)


@dataclass
class Kept:
    """A database with its writer, and what decides and sums in it at the time NOW."""

    database: Database
    writer: Writer
    usage: SqlUsage
    recovery: SqlRecovery

    async def add(self, *found: Execution) -> None:
        await asyncio.gather(*(self.writer.submit(Change(each)) for each in found))

    async def summed(self, *dimensions: Dimension) -> dict[Group, Figures]:
        return dict(await self.usage.summed(UsageQuery(dimensions=dimensions, since=0, until=100_000)))

    async def history(self) -> dict[Group, Figures]:
        """The same sums, made from all executions that have ended."""
        async with self.database.reading() as connection:
            found = [rows.execution(each) for each in await connection.execute(sa.select(*rows.COLUMNS))]
        sums: dict[Group, Figures] = {}
        for use in [used(each) for each in found if each.ended]:
            key = (use.hour, use.tenant, use.user, use.agent, use.tool, use.category)
            sums.setdefault(key, Figures()).add(use)
        return sums

    async def agrees(self) -> bool:
        """Whether both tables say what the history says."""
        history, everything, by_tool = await self.history(), Figures(), await self.summed()
        for each in history.values():
            everything.merge(each)
        return await self.summed(*EVERYTHING) == history and by_tool == {(): everything}


@pytest_asyncio.fixture
async def kept(database: Database) -> AsyncGenerator[Kept]:
    sink = SqliteSink if database.options.is_sqlite else PostgresSink
    writer = Writer(sink(database.options))
    await writer.open()
    recovery = SqlRecovery(database, writer, audited=False, usage_days=400, clock=lambda: NOW)
    yield Kept(database, writer, SqlUsage(database, writer), recovery)
    await writer.close()


def ended(execution_id: str, state: State = State.SUCCEEDED, *, days_ago: float = 0.5, **facts: Any) -> Execution:
    created = NOW - days_ago * DAY
    times = {"queue_seconds": 0.25, "tool_seconds": 1.0} if state is State.SUCCEEDED else {}
    values = {"attempts": 1, "state": state, "end_time": created + 1, **times, **facts}
    return row(execution_id, create_time=created, **values)


def verdict(state: State) -> Callable[[Execution], Verdict | None]:
    def judge(execution: Execution) -> Verdict | None:
        execution.move(state)
        execution.failure = None if state is State.SUCCEEDED else Failure(Reason.OUTCOME_UNKNOWN, "gone")
        execution.end_time = execution.end_time or execution.create_time + 5
        return Verdict(execution, Kind.RECONCILIATION, NOW)

    return judge


async def counts(kept: Kept) -> dict[str, int]:
    found = (await kept.summed()).get((), Figures())
    return {name: found.of(name) for name in ("succeeded", "failed", "outcome_unknown") if found.of(name)}


async def test_each_execution_counts_once_as_what_it_turned_out_to_be(kept: Kept) -> None:
    running = [row(name, create_time=NOW - DAY) for name in ("dead", "ends", "goes on")]
    for each in running:
        each.move(State.RUNNING)
    await kept.add(*running, *(ended(name, State.OUTCOME_UNKNOWN, hold_micros=70) for name in "abc"), ended("d"))
    assert await counts(kept) == {"succeeded": 1, "outcome_unknown": 3}
    running[1].move(State.SUCCEEDED)
    await kept.add(running[1])
    # A server died, and what it ran is settled by another one.
    await kept.recovery.decide("dead", verdict(State.OUTCOME_UNKNOWN))
    assert await counts(kept) == {"succeeded": 2, "outcome_unknown": 4}
    # What became of two of them is learned.
    await kept.recovery.decide("a", verdict(State.SUCCEEDED))
    await kept.recovery.decide("b", verdict(State.FAILED))
    assert await counts(kept) == {"succeeded": 3, "failed": 1, "outcome_unknown": 2}
    assert (await kept.summed())[()].of("cost_micros") == 70
    # Of one, in the commit that keeps that it is unknown.
    await asyncio.gather(
        kept.add(ended("e", State.OUTCOME_UNKNOWN)), kept.recovery.decide("e", verdict(State.SUCCEEDED))
    )
    assert await counts(kept) == {"succeeded": 4, "failed": 1, "outcome_unknown": 2}
    assert await kept.agrees()


async def test_outcomes_that_were_kept_beside_the_database_are_counted_once_however_often_they_come(kept: Kept) -> None:
    await kept.add(ended("a", State.OUTCOME_UNKNOWN), row("b", create_time=NOW - DAY / 2), ended("d"))
    for _ in range(2):
        for execution_id in "abcd":
            await kept.recovery.restore(ended(execution_id), (), frees=False)
    assert await counts(kept) == {"succeeded": 4}
    assert await kept.agrees()


async def test_a_group_that_is_refused_and_tried_again_in_parts_is_counted_once(kept: Kept) -> None:
    bad = ended("b", labels={"a": "\x00"} if not kept.database.options.is_sqlite else {})
    if kept.database.options.is_sqlite:
        bad.epoch = 2**70
    good = [ended("a"), ended("c"), ended("d")]
    done = await asyncio.gather(
        *(kept.writer.submit(Change(each)) for each in [good[0], bad, *good[1:]]), return_exceptions=True
    )
    assert [type(each).__name__ for each in done] == ["NoneType", "Refused", "NoneType", "NoneType"]
    assert await counts(kept) == {"succeeded": 3}
    assert await kept.agrees()


async def test_old_hours_are_erased_and_no_others_and_nothing_is_taken_from_what_is_gone(kept: Kept) -> None:
    old = [ended(f"old-{number}", State.OUTCOME_UNKNOWN, days_ago=401 + number, agent_id="x") for number in range(3)]
    await kept.add(*old, ended("new", days_ago=399))
    assert [await kept.usage.erase(NOW - 400 * DAY, 4) for _ in range(3)] == [4, 2, 0]
    await kept.recovery.decide("old-0", verdict(State.SUCCEEDED))
    assert await counts(kept) == {"succeeded": 1}
    async with kept.database.reading() as connection:
        for table in (usage_by_user, usage_by_tool):
            assert await connection.scalar(sa.select(sa.func.count()).select_from(table)) == 1


async def test_executions_from_before_the_figures_are_counted_by_the_migration(kept: Kept) -> None:
    await kept.add(
        *(ended(f"a{number}", days_ago=number / 10, server_id=f"s{number % 3}") for number in range(30)),
        ended("b", State.FAILED, tool="crm.get", category="crm", attempts=3, cost_micros=7),
        ended("c", State.OUTCOME_UNKNOWN),
        ended("d", tool_seconds=0.0, queue_seconds=0.00001),
        row("e", create_time=NOW),
    )
    incremental = await kept.summed(*EVERYTHING)
    assert len(incremental) > 5
    for table in (usage_by_user, usage_by_tool):
        await done(kept, lambda connection, table=table: connection.execute(sa.delete(table)))
    # In two parts: rows that are there already are added to.
    await done(kept, lambda connection: usage_0005.fill(connection, held=3))
    assert await kept.summed(*EVERYTHING) == incremental
    assert await kept.agrees()


async def done(kept: Kept, work: Callable[[sa.Connection], object]) -> None:
    def silent(connection: sa.Connection) -> Sequence[Any]:
        work(connection)
        return ()

    await kept.writer.submit(Change(work=silent))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_question_that_comes_to_too_many_rows_is_refused(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST_ROWS", 2)
    await kept.add(*(ended(name, agent_id=name) for name in "abc"))
    assert len(await kept.summed(Dimension.TOOL)) == 1
    with pytest.raises(ToolwrightError, match="comes to more than"):
        await kept.summed(Dimension.AGENT)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_servers_that_count_the_same_at_the_same_time_neither_lose_anything_nor_block_each_other(
    kept: Kept,
) -> None:
    options = kept.database.options
    writers = [Writer(PostgresSink(options), WriterOptions(group_changes=8)) for _ in range(3)]
    for writer in writers:
        await writer.open()

    async def fill(number: int, writer: Writer) -> None:
        for turn in range(12):
            # The same keys, in another order each time; the first two write on one sheet.
            names = [f"{number}-{turn}-{each}" for each in range(8)]
            calls = [
                ended(name, tool=f"t{(turn + at * (1 + 2 * number)) % 8}", server_id="ab"[number // 2])
                for at, name in enumerate(names)
            ]
            await asyncio.gather(*(writer.submit(Change(each)) for each in calls))

    await asyncio.wait_for(asyncio.gather(*(fill(*each) for each in enumerate(writers))), 60)
    assert await counts(kept) == {"succeeded": 3 * 12 * 8}
    assert await kept.agrees()
    for writer in writers:
        await writer.close()
