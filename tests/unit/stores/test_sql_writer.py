import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolwright_server.stores.sql.change import AuditRow, Change, Entry, Fenced, NoLinker, Refused, Unavailable, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.group import Outcome, Pending
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import audit_entries, executions, facts, servers
from toolwright_server.stores.sql.writer import WriterOptions

from .written import broken, kept, row, writing

pytestmark = pytest.mark.asyncio

ON_A_REAL_DATABASE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def noted(name: str, value: bytes = b"") -> tuple[sa.Executable, dict[str, Any]]:
    """A statement that leaves a mark; a second one of the same name is refused."""
    return sa.insert(facts), {"name": name, "value": value}


async def marks(database: Database) -> list[str]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(facts.c.name).order_by(facts.c.name))).scalars())


async def emptied(database: Database) -> None:
    async with writing(database) as writer:
        for table in (executions, facts, audit_entries):
            await writer.submit(Change(statements=((sa.delete(table), {}),)))


async def test_what_is_awaited_is_in_the_tables_for_everybody(database: Database) -> None:
    async with writing(database) as writer:
        assert await writer.submit(Change(row("a"))) is None
        assert await kept(database) == ["a"]


async def test_changes_of_one_turn_of_the_loop_are_one_commit(database: Database) -> None:
    async with writing(database) as writer:
        await asyncio.gather(*(writer.submit(Change(row(f"{number:03}"))) for number in range(100)))
        assert (writer.groups, writer.changes) == (1, 100)
        assert len(await kept(database)) == 100


@ON_A_REAL_DATABASE
@given(st.sets(st.integers(0, 69), max_size=6), st.integers(1, 70))
async def test_a_refused_row_never_fails_its_group(database: Database, bad: set[int], count: int) -> None:
    await emptied(database)
    async with writing(database) as writer:
        names = [f"{number:03}" for number in range(count)]
        changes = [Change(broken(name) if number in bad else row(name)) for number, name in enumerate(names)]
        results = await asyncio.gather(*map(writer.submit, changes), return_exceptions=True)
        refused = {number for number, result in enumerate(results) if isinstance(result, Refused)}
        assert refused == {number for number in bad if number < count}
        assert await kept(database) == [name for number, name in enumerate(names) if number not in bad]


async def test_a_change_is_kept_as_a_whole_or_not_at_all(database: Database) -> None:
    async with writing(database) as writer:
        await writer.submit(Change(statements=(noted("there"),)))
        half = Change(row("a"), statements=(noted("new"), noted("there")))
        whole = Change(row("b"), statements=(noted("other"),))
        results = await asyncio.gather(writer.submit(half), writer.submit(whole), return_exceptions=True)
        assert isinstance(results[0], Refused)
        assert results[1] is None
    assert await kept(database) == ["b"]
    assert await marks(database) == ["other", "there"]


async def test_closing_keeps_everything_that_was_submitted(database: Database) -> None:
    async with writing(database, WriterOptions(linger_seconds=3_600.0)) as writer:
        for number in range(300):
            writer.submit(Change(row(f"a{number:03}")))
            writer.submit_unawaited(Change(row(f"b{number:03}")))
        writer.submit_unawaited(Change(statements=(noted("last"),)))
    assert len(await kept(database)) == 600
    assert await marks(database) == ["last"]
    assert writer.queued == 0


async def test_after_closing_changes_are_refused_and_not_forgotten_in_silence(database: Database) -> None:
    async with writing(database) as writer:
        pass
    with pytest.raises(Unavailable, match="shutting down"):
        await writer.submit(Change(row("a")))
    writer.submit_unawaited(Change(statements=(noted("late"),)))
    assert writer.lost == 1


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_caller_that_gives_up_takes_no_change_with_it(database: Database, turns: int) -> None:
    told: list[Unkept | None] = []
    async with writing(database) as writer:
        change = Change(row("a"), done=lambda _, error: told.append(error))
        waiting = asyncio.ensure_future(writer.submit(change))
        other = writer.submit(Change(row("b")))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await other
        assert waiting.cancelled()
    assert await kept(database) == ["a", "b"]
    assert told == [None]


@ON_A_REAL_DATABASE
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=40))
async def test_of_an_executions_changes_the_last_one_stays(
    database: Database, steps: list[tuple[int, bool, bool]]
) -> None:
    await emptied(database)
    rows = [row(f"{number}") for number in range(4)]
    last: dict[str, float] = {}
    async with writing(database, WriterOptions(linger_seconds=3_600.0)) as writer:
        for time, (number, awaited, pauses) in enumerate(steps):
            execution = rows[number]
            execution.end_time = last[execution.execution_id] = float(time)
            if awaited:
                writer.submit(Change(execution))
            else:
                writer.submit_unawaited(Change(execution))
            if pauses:
                await asyncio.sleep(0)
    assert await kept(database, executions.c.execution_id, executions.c.end_time) == sorted(last.items())


async def test_statements_are_executed_in_the_order_in_which_they_came(database: Database) -> None:
    async with writing(database) as writer:
        await writer.submit(Change(statements=(noted("x", b"0"),)))
        for number in range(1, 50):
            writer.submit(Change(statements=((sa.update(facts).values(value=str(number).encode()), {}),)))
    async with database.reading() as connection:
        assert (await connection.execute(sa.select(facts.c.value))).scalar() == b"49"


async def test_a_beginning_that_nobody_awaits_is_replaced_by_its_end(database: Database) -> None:
    told: list[str] = []
    linker = Recording()
    async with writing(database, WriterOptions(linger_seconds=3_600.0), linker=linker) as writer:
        execution = row("a")
        begun = Change(execution, entries=["intent"], statements=(noted("1"),))
        begun.done = lambda _, error: told.append(f"begun {error}")
        writer.submit_unawaited(begun)
        execution.end_time = 5.0
        ended = Change(execution, entries=["outcome"], statements=(noted("2"),))
        ended.done = lambda _, error: told.append(f"ended {error}")
        await writer.submit(ended)
        assert (writer.groups, writer.changes, writer.queued) == (1, 1, 0)
    assert await kept(database, executions.c.end_time) == [(5.0,)]
    assert await marks(database) == ["1", "2"]
    assert linker.kept == ["intent", "outcome"]
    assert told == ["begun None", "ended None"]


async def test_a_beginning_that_nobody_awaits_is_kept_also_without_its_end(database: Database) -> None:
    done = asyncio.Event()
    async with writing(database, WriterOptions(linger_seconds=0.001)) as writer:
        writer.submit_unawaited(Change(row("a"), done=lambda _, __: done.set()))
        await asyncio.wait_for(done.wait(), 20)
        assert await kept(database) == ["a"]


async def test_more_than_may_wait_unawaited_is_counted_and_said(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with writing(database, WriterOptions(unawaited_limit=3, linger_seconds=3_600.0)) as writer:
        for number in range(5):
            writer.submit_unawaited(Change(row(str(number))))
        assert writer.lost == 2
        await writer.flush()
        writer.submit_unawaited(Change(row("5")))
        assert writer.lost == 2
    assert await kept(database) == ["0", "1", "2", "5"]
    assert "1 changes that nobody waited for were not recorded: too many changes wait" in caplog.text


async def test_what_follows_a_commit_reaches_nobody_else_when_it_fails(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a defect")

    with caplog.at_level(logging.ERROR):
        async with writing(database) as writer:
            await asyncio.gather(writer.submit(Change(row("a"), done=fail)), writer.submit(Change(row("b"))))
    assert await kept(database) == ["a", "b"]
    assert "what was to follow a commit failed" in caplog.text


class Recording(NoLinker):
    """A Linker that gives each entry the next number in one chain."""

    def __init__(self) -> None:
        self.kept: list[Entry] = []
        self.dropped = 0
        self._linked: list[Entry] = []

    def link(self, entries: Sequence[Entry]) -> Sequence[AuditRow]:
        first = len(self.kept) + len(self._linked)
        self._linked += entries
        return [
            ("chain", number, 1.0, "acme", "kind", "key-1", "ann", "", str(entry).encode(), b"", b"")
            for number, entry in enumerate(entries, first)
        ]

    def keep(self) -> None:
        self.kept += self._linked
        self._linked = []

    def drop(self) -> None:
        self.dropped += 1
        self._linked = []


@ON_A_REAL_DATABASE
@given(st.lists(st.sampled_from(["plain", "refused", "lost"]), min_size=1, max_size=24))
async def test_the_chain_holds_the_entries_of_what_was_kept_in_their_order(
    database: Database, kinds: list[str]
) -> None:
    await emptied(database)
    linker = Recording()
    async with writing(database, linker=linker) as writer:
        await writer.submit(Change(row("holder", request_id="r", create_time=9e9), claims=True))
        waiting: list[asyncio.Future[str | None]] = []
        for number, kind in enumerate(kinds):
            name = f"{number:02}"
            execution = broken(name) if kind == "refused" else row(name, request_id="r" if kind == "lost" else "")
            waiting.append(writer.submit(Change(execution, claims=kind == "lost", entries=[f"{name}-1", f"{name}-2"])))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await writer.submit(Change(statements=((sa.text("DELETE FROM request_ids"), {}),)))
    answers: dict[str, Callable[[object], bool]] = {
        "plain": lambda result: result is None,
        "refused": lambda result: isinstance(result, Refused),
        "lost": lambda result: result == "holder",
    }
    assert all(answers[kind](result) for kind, result in zip(kinds, results, strict=True)), results
    expected = [f"{number:02}-{each}" for number, kind in enumerate(kinds) if kind == "plain" for each in (1, 2)]
    async with database.reading() as connection:
        chain = (await connection.execute(sa.select(audit_entries.c.body).order_by(audit_entries.c.sequence))).scalars()
        assert [body.decode() for body in chain] == expected == linker.kept


async def test_without_its_lease_a_server_writes_nothing(database: Database) -> None:
    lease = ('it\'s "here"', 7)
    async with writing(database) as other:
        await other.submit(Change(statements=((sa.insert(servers), _server(*lease)),)))
        async with writing(database, lease=lease) as writer:
            await writer.submit(Change(row("a")))
            await other.submit(Change(statements=((sa.delete(servers), {}),)))
            changes = [
                Change(row("b")),
                Change(row("c", request_id="r"), claims=True),
                Change(statements=(noted("n"),)),
            ]
            results = await asyncio.gather(*map(writer.submit, changes), return_exceptions=True)
            assert [type(result) for result in results] == [Fenced, Fenced, Fenced]
            await other.submit(Change(statements=((sa.insert(servers), _server(lease[0], 8)),)))
            with pytest.raises(Fenced):
                await writer.submit(Change(row("d")))
    assert await kept(database) == ["a"]
    assert await marks(database) == []


def _server(server_id: str, epoch: int) -> dict[str, Any]:
    return {"server_id": server_id, "epoch": epoch, "lease_time": 0.0, "start_time": 0.0, "address": ""}


class Counting(SqliteSink):
    """Notes how large the groups are."""

    sizes: list[int]

    def write(self, items: Sequence[Pending], done: Callable[[Outcome], None]) -> None:
        self.sizes.append(len(items))
        super().write(items, done)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_groups_are_bounded_by_count_and_by_bytes(database: Database) -> None:
    sink = Counting(database.options)
    sink.sizes = []
    async with writing(database, WriterOptions(group_changes=4, group_bytes=1_000), sink=sink) as writer:
        small = [Change(row(f"a{number}")) for number in range(10)]
        large = [Change(row(f"b{number}", arguments=b"x" * 600)) for number in range(3)]
        huge = [Change(row("c", arguments=b"x" * 5_000))]
        await asyncio.gather(*map(writer.submit, small + large + huge))
    assert sink.sizes == [4, 4, 3, 1, 1, 1]
    assert len(await kept(database)) == 14
