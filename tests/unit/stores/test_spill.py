from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from tests.unit.execution.corridor import row
from toolwright_server.artifacts.model import Artifact
from toolwright_server.errors import Failure, Reason, SettingsError, ToolwrightError
from toolwright_server.execution.evidence import outcome_entry
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.records.audit.model import Entry
from toolwright_server.stores.sql import rows
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.recovery import SqlRecovery
from toolwright_server.stores.sql.rows import values
from toolwright_server.stores.sql.spill import OutcomeSpill
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import request_ids
from toolwright_server.stores.sql.writer import Writer

SIZE = 65_536
pytestmark = pytest.mark.asyncio


def settled(execution_id: str, **facts: object) -> Execution:
    made = row(execution_id=execution_id, request_id="r", labels={"team": "x"}, arguments=b'{"a":1}', salt=b"salt")
    made.move(State.RUNNING)
    made.move(State.SUCCEEDED)
    made.result, made.stopped, made.end_time = b'{"n":18446744073709551615}', Stopped.YES, 1_001.0
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def outcome(execution: Execution, *, frees: bool = False) -> Change:
    return Change(execution, frees=frees, entries=[outcome_entry(execution)])


class Given:
    """A database that takes outcomes, or is gone after so many, or refuses some."""

    def __init__(self, takes: int = 1_000) -> None:
        self.takes = takes
        self.refuses: set[str] = set()
        self.executions: list[Execution] = []
        self.entries: list[Entry] = []
        self.frees: list[bool] = []
        self.kept: list[str] = []
        self.before: State | None = None

    async def restore(self, execution: Execution, entries: Sequence[Entry], frees: bool) -> State | None:
        if len(self.executions) >= self.takes:
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "gone")
        if execution.execution_id in self.refuses:
            raise ToolwrightError(Reason.INTERNAL, "refused")
        self.executions.append(execution)
        self.entries += entries
        self.frees.append(frees)
        return self.before

    @property
    def ids(self) -> list[str]:
        return [execution.execution_id for execution in self.executions]


@pytest.fixture
def spill(tmp_path: Path) -> Iterator[OutcomeSpill]:
    made = OutcomeSpill.open(tmp_path, SIZE)
    yield made
    made.close()


async def test_an_outcome_comes_back_as_it_was(spill: OutcomeSpill) -> None:
    failed = settled("0190-b", state=State.FAILED, result=None, failure=Failure(Reason.TOOL_FAILED, "no \udcff"))
    done = settled("0190-a")
    done.artifacts = (Artifact(1, "a.csv", "text/csv", 3, "0" * 64, "a,b", None),)
    assert spill.keep(outcome(done))
    assert spill.keep(outcome(failed, frees=True))
    assert spill.waiting == 2
    given = Given()
    await spill.drain(given.restore, given.kept.append)
    assert [values(each) for each in given.executions] == [values(done), values(failed)]
    assert given.executions[0].artifacts == done.artifacts
    assert given.entries == [outcome_entry(done), outcome_entry(failed)]
    assert given.frees == [False, True]
    assert given.kept == ["0190-a", "0190-b"]
    assert (spill.waiting, spill.used_bytes) == (0, 0)


async def test_an_outcome_that_an_earlier_release_wrote_down_comes_back_without_costs(
    spill: OutcomeSpill, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(rows, "values", lambda execution: values(execution)[:24])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        assert spill.keep(outcome(settled("0190-a")))
    given = Given()
    await spill.drain(given.restore, given.kept.append)
    assert [values(each) for each in given.executions] == [values(settled("0190-a"))]


async def test_what_could_not_be_written_down_is_given_all_the_same_while_the_server_lives(
    spill: OutcomeSpill,
) -> None:
    assert spill.keep(outcome(settled("0190-a")))
    large = settled("0190-c", result=b"x" * SIZE)
    assert not spill.keep(outcome(large))
    assert not spill.remember(outcome(large))
    assert spill.remember(outcome(settled("0190-b")))
    assert spill.waiting == 2
    given = Given(takes=1)
    with pytest.raises(ToolwrightError):
        await spill.drain(given.restore, given.kept.append)
    assert spill.waiting == 1
    given.takes = 9
    await spill.drain(given.restore, given.kept.append)
    assert given.kept == ["0190-a", "0190-b"]
    assert spill.waiting == 0


async def test_the_next_server_in_the_folder_gives_what_a_dead_one_kept(spill: OutcomeSpill, tmp_path: Path) -> None:
    spill.keep(outcome(settled("0190-a")))
    # While the first one lives the second has a file of its own.
    second = OutcomeSpill.open(tmp_path, SIZE)
    assert second.waiting == 0
    second.keep(outcome(settled("0190-b")))
    second.close()
    third = OutcomeSpill.open(tmp_path, SIZE)
    assert third.waiting == 1
    given = Given()
    await third.drain(given.restore, given.kept.append)
    assert given.ids == ["0190-b"]
    third.close()


async def test_files_of_several_dead_servers_are_all_read(tmp_path: Path) -> None:
    spills = [OutcomeSpill.open(tmp_path, SIZE) for _ in range(3)]
    for number, each in enumerate(spills):
        each.keep(outcome(settled(f"0190-{number}")))
    for each in spills:
        each.close()
    heir = OutcomeSpill.open(tmp_path, SIZE)
    assert heir.waiting == 3
    given = Given()
    await heir.drain(given.restore, given.kept.append)
    assert sorted(given.ids) == ["0190-0", "0190-1", "0190-2"]
    assert heir.keep(outcome(settled("0190-3")))
    heir.close()
    last = OutcomeSpill.open(tmp_path, SIZE)
    assert last.waiting == 1
    last.close()


async def test_a_database_that_goes_again_is_given_the_rest_later(spill: OutcomeSpill) -> None:
    for number in range(5):
        spill.keep(outcome(settled(f"0190-{number}")))
    given = Given(takes=2)
    with pytest.raises(ToolwrightError):
        await spill.drain(given.restore, given.kept.append)
    assert (given.kept, spill.waiting) == (["0190-0", "0190-1"], 3)
    assert spill.keep(outcome(settled("0190-5")))
    given.takes = 1_000
    await spill.drain(given.restore, given.kept.append)
    assert given.kept == [f"0190-{number}" for number in range(6)]
    assert spill.waiting == 0


async def test_what_is_written_down_while_it_is_emptied_is_given_too(spill: OutcomeSpill) -> None:
    spill.keep(outcome(settled("0190-a")))
    given = Given()

    def kept(execution_id: str) -> None:
        given.kept.append(execution_id)
        if execution_id == "0190-a":
            spill.keep(outcome(settled("0190-b")))

    await spill.drain(given.restore, kept)
    assert given.kept == ["0190-a", "0190-b"]
    assert spill.used_bytes == 0


async def test_an_outcome_that_the_database_refuses_does_not_hold_up_the_others(
    spill: OutcomeSpill, caplog: pytest.LogCaptureFixture
) -> None:
    for each in ("0190-a", "0190-b", "0190-c"):
        spill.keep(outcome(settled(each)))
    given = Given()
    given.refuses = {"0190-b"}
    await spill.drain(given.restore, given.kept.append)
    assert given.ids == ["0190-a", "0190-c"]
    assert "refuses the outcome of 0190-b (SUCCEEDED)" in caplog.text


@pytest.mark.parametrize("before", [State.FAILED, State.CANCELLED])
async def test_a_record_that_says_otherwise_is_said_and_left(
    spill: OutcomeSpill, caplog: pytest.LogCaptureFixture, before: State
) -> None:
    spill.keep(outcome(settled("0190-a")))
    given = Given()
    given.before = before
    await spill.drain(given.restore, given.kept.append)
    assert f"was settled as {before.name}" in caplog.text


async def test_a_full_file_says_no_and_which_outcome_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spill = OutcomeSpill.open(tmp_path, 8_192)
    assert not spill.keep(outcome(settled("0190-a", result=bytes(10_000))))
    assert spill.refused == 1
    assert "0190-a" in caplog.text
    assert spill.keep(outcome(settled("0190-b")))
    spill.close()


async def test_what_is_no_outcome_is_not_written_down(spill: OutcomeSpill) -> None:
    assert not spill.keep(Change())
    assert not spill.keep(Change(settled("0190-a"), statements=((sa.delete(request_ids), {}),)))
    assert not spill.keep(Change(work=lambda _: ()))
    assert spill.waiting == 0


async def test_a_folder_that_has_no_room_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "spill").write_text("a file")
    with pytest.raises(SettingsError, match="spill_limit_bytes"):
        OutcomeSpill.open(tmp_path, SIZE)


@pytest_asyncio.fixture
async def recovery(database: Database) -> AsyncIterator[tuple[SqlRecovery, Writer]]:
    """What outcomes are given to, on every database."""
    writer = Writer((SqliteSink if database.options.is_sqlite else PostgresSink)(database.options))
    await writer.open()
    yield SqlRecovery(database, writer, audited=False), writer
    await writer.close()


async def test_an_outcome_is_restored_where_there_was_no_row(recovery: tuple[SqlRecovery, Writer]) -> None:
    store, _ = recovery
    done = settled("0190-a")
    assert await store.restore(done, (), False) is None
    (kept,) = await store.ended(["0190-a"])
    assert values(kept) == values(done)


@pytest.mark.parametrize("before", [State.QUEUED, State.RUNNING, State.OUTCOME_UNKNOWN])
async def test_an_outcome_is_restored_over_what_does_not_know_it(
    recovery: tuple[SqlRecovery, Writer], before: State
) -> None:
    store, writer = recovery
    await writer.submit(Change(row(execution_id="0190-a", state=before, request_id="r"), claims=True))
    assert await store.restore(settled("0190-a"), (), False) is before
    (kept,) = await store.ended(["0190-a"])
    assert (kept.state, kept.result) == (State.SUCCEEDED, b'{"n":18446744073709551615}')


@pytest.mark.parametrize("before", [State.SUCCEEDED, State.FAILED, State.REJECTED])
async def test_an_outcome_that_is_known_stays_as_it_is(recovery: tuple[SqlRecovery, Writer], before: State) -> None:
    store, writer = recovery
    await writer.submit(Change(row(execution_id="0190-a", state=before, result=b"1")))
    assert await store.restore(settled("0190-a"), (), False) is before
    (kept,) = await store.ended(["0190-a"])
    assert (kept.state, kept.result) == (before, b"1")


async def test_a_restored_refusal_gives_its_request_id_back(
    recovery: tuple[SqlRecovery, Writer], database: Database
) -> None:
    store, writer = recovery
    await writer.submit(Change(row(execution_id="0190-a", request_id="r"), claims=True))
    await store.restore(settled("0190-a", state=State.REJECTED, result=None), (), True)
    async with database.reading() as connection:
        assert await connection.scalar(sa.select(request_ids.c.expire_time)) == 0.0
