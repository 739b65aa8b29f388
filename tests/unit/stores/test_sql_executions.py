import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.executions import OWNER
from toolwright_server.catalog.model import Effect
from toolwright_server.conditions import Comparison, Relation
from toolwright_server.errors import Failure, Reason, ToolwrightError, Violation
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.execution.store import RecordFailed
from toolwright_server.identity import Caller
from toolwright_server.records.audit.encoding import chain_id
from toolwright_server.stores.sql import rows
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.tables import executions, request_ids
from toolwright_server.stores.sql.writer import Writer

from .written import HASTY, calm, ended, kept, locked, opened, row, writing

pytestmark = pytest.mark.asyncio


@dataclass
class Servers:
    """Two servers on one database."""

    database: Database
    writer: Writer
    other: Writer
    one: SqlExecutionStore
    two: SqlExecutionStore


@pytest_asyncio.fixture
async def servers(database: Database) -> AsyncGenerator[Servers]:
    async with writing(database) as first, writing(database) as second:
        yield Servers(database, first, second, SqlExecutionStore(database, first), SqlExecutionStore(database, second))


# Everything that is text, but for what PostgreSQL cannot hold.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
ANY_TEXT = st.text(max_size=12)
TIME = st.floats(0, 4e9)
FAILURES = st.builds(
    Failure,
    reason=st.sampled_from(Reason),
    message=TEXT,
    user_message=TEXT,
    suggested_action=TEXT,
    retryable=st.none() | st.booleans(),
    retry_delay=st.none() | TIME,
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    violations=st.lists(st.builds(Violation, TEXT, TEXT), max_size=2).map(tuple),
    admin_message=TEXT,
)
EXECUTIONS = st.builds(
    Execution,
    execution_id=st.just(""),
    caller=st.builds(Caller, TEXT, TEXT, TEXT),
    tool=TEXT,
    tool_version=TEXT,
    digest=st.binary(max_size=32),
    server_id=TEXT,
    epoch=st.integers(0, 2**63 - 1),
    trace_id=TEXT,
    create_time=TIME,
    deadline_time=TIME,
    deadline_source=st.sampled_from(DeadlineSource),
    as_json=st.booleans(),
    task_id=TEXT,
    parent_execution_id=TEXT,
    request_id=TEXT,
    session_id=TEXT,
    agent_id=TEXT,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    arguments_bytes=st.integers(0, 2**40),
    state=st.sampled_from(State),
    start_time=st.none() | TIME,
    end_time=st.none() | TIME,
    attempts=st.integers(0, 100),
    queue_seconds=st.none() | TIME,
    tool_seconds=st.none() | TIME,
    result=st.none() | st.binary(max_size=40),
    failure=st.none() | FAILURES,
    stopped=st.sampled_from(Stopped),
    last_sequence=st.integers(0, 2**40),
    effect=st.sampled_from(Effect),
    category=TEXT,
    arguments=st.none() | st.binary(max_size=40),
    salt=st.none() | st.binary(max_size=16),
)


def facts(execution: Execution) -> dict[str, Any]:
    found = {name: getattr(execution, name) for name in Execution.__slots__}
    # Labels may be any mapping; who calls is kept by name.
    return found | {"labels": dict(execution.labels)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(execution=EXECUTIONS)
async def test_every_field_comes_back_as_it_was(servers: Servers, execution: Execution) -> None:
    # The same id may be drawn twice, and who calls does not change.
    execution.execution_id = str(uuid.uuid4())
    execution.audit_id = chain_id(execution.caller.tenant, execution.server_id, execution.epoch)
    await servers.writer.submit(Change(execution))
    found = await servers.two.get(execution.caller, execution.execution_id)
    assert found is not None
    assert facts(found) == facts(execution)


async def test_half_a_surrogate_pair_in_a_tools_words_costs_no_record(servers: Servers) -> None:
    execution = row("a")
    await servers.one.add(execution)
    execution.move(State.RUNNING)
    execution.move(State.FAILED)
    execution.failure = Failure(Reason.TOOL_FAILED, "\ud800 broke", metadata={"where": "\udfff"})
    await servers.one.settle(execution)
    found = await servers.two.get(OWNER, "a")
    assert found is not None
    assert found.failure is not None
    assert (found.failure.message, found.failure.metadata) == ("? broke", {"where": "?"})


async def test_a_reason_of_a_newer_release_is_read_as_internal(servers: Servers) -> None:
    execution = row("a", failure=Failure(Reason.TOOL_FAILED, "words"))
    values = list(rows.values(execution))
    number = [column.name for column in rows.COLUMNS].index("body")
    values[number] = values[number].replace(b"TOOL_FAILED", b"OF_TOMORROW")
    values[18] = {}
    failure = rows.execution(values).failure
    assert failure is not None
    assert (failure.reason, failure.message) == (Reason.INTERNAL, "words")


async def test_another_server_sees_what_runs_and_what_has_ended(servers: Servers) -> None:
    first, second = row("a", request_id="r"), row("b")
    await servers.one.add(first)
    await servers.one.add(second)
    assert [each.state for each in await servers.two.list(OWNER, ExecutionQuery(10))] == [State.QUEUED] * 2
    await servers.one.settle(ended(first, b'"x"'))
    found = await servers.two.find(OWNER, "r")
    assert found is not None
    assert (found.state, found.result) == (State.SUCCEEDED, b'"x"')
    await servers.two.correct("a", Stopped.NO)
    again = await servers.one.get(OWNER, "a")
    assert again is not None
    assert again.stopped is Stopped.NO


async def test_a_claim_holds_on_every_server(servers: Servers) -> None:
    assert await servers.one.add(row("a", request_id="r", create_time=9e9)) is None
    found = await servers.two.add(row("b", request_id="r", create_time=9e9))
    assert found is not None
    assert found.execution_id == "a"


async def test_what_nobody_waited_for_is_answered_from_memory_and_then_from_the_tables(servers: Servers) -> None:
    execution = row("a")
    await servers.one.add(execution, awaited=False)
    assert await servers.one.get(OWNER, "a") is execution
    assert [each.execution_id for each in await servers.one.list(OWNER, ExecutionQuery(10))] == ["a"]
    await servers.one.settle(ended(execution), awaited=False)
    assert await servers.one.get(OWNER, "a") is execution
    await servers.writer.flush()
    assert len(servers.one) == 0
    found = await servers.two.get(OWNER, "a")
    assert found is not None
    assert found.state is State.SUCCEEDED


async def test_pages_have_no_holes_wherever_the_rows_are(servers: Servers) -> None:
    chance = random.Random(3)
    names = [f"{number:03}" for number in range(60)]
    wanted: list[str] = []
    for name in chance.sample(names, len(names)):
        execution = row(name, state=chance.choice([State.QUEUED, State.RUNNING]))
        store = chance.choice([servers.one, servers.two])
        await store.add(execution, awaited=chance.random() < 0.5)
        ends = chance.random() < 0.5
        if ends:
            await store.settle(ended(execution))
        elif store is servers.one and execution.state is State.QUEUED:
            # In memory alone: the tables still say that it is queued.
            execution.move(State.RUNNING)
        wanted += [name] if execution.state is State.RUNNING else []
    await servers.other.flush()
    condition = Comparison("state", Relation.EQUAL, "RUNNING")
    for limit in (1, 2, 7, 100):
        seen: list[str] = []
        page: Sequence[Execution] = [row("~")]
        while page:
            page = await servers.one.list(OWNER, ExecutionQuery(limit, seen[-1] if seen else "", condition))
            assert len(page) <= limit
            seen += [each.execution_id for each in page]
        assert seen == sorted(wanted, reverse=True)


async def test_a_caller_that_leaves_while_its_call_is_recorded_leaves_no_call_that_runs(servers: Servers) -> None:
    execution = row("a", request_id="r", create_time=9e9)
    adding = asyncio.ensure_future(servers.one.add(execution))
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.wait([adding])
    assert adding.cancelled()
    await servers.writer.flush()
    found = await servers.two.get(OWNER, "a")
    assert found is not None
    assert found.failure is not None
    assert (found.state, found.failure.metadata) == (State.CANCELLED, {"outcome": "not_started"})
    assert await servers.two.add(row("b", request_id="r", create_time=9e9)) is None


async def test_a_holder_that_retention_took_holds_nothing_any_more(servers: Servers) -> None:
    await servers.one.add(row("a", request_id="r", create_time=9e9))
    await servers.writer.submit(Change(statements=((sa.delete(executions), {}),)))
    assert await servers.two.add(row("b", request_id="r", create_time=9e9)) is None
    async with servers.database.reading() as connection:
        assert (await connection.execute(sa.select(request_ids.c.execution_id))).scalars().all() == ["b"]


@pytest_asyncio.fixture
async def file(tmp_path: Path) -> AsyncGenerator[Database]:
    async with opened(tmp_path, 0.2) as database:
        yield database


@dataclass
class Notebook:
    """A Spill with room for so many, and memory for so many more."""

    room: int
    memory: int = 0
    kept: list[Change] = field(default_factory=list[Change])
    remembered: list[Change] = field(default_factory=list[Change])

    def keep(self, change: Change) -> bool:
        if len(self.kept) < self.room:
            self.kept.append(change)
            return True
        return False

    def remember(self, change: Change) -> bool:
        if len(self.remembered) < self.memory:
            self.remembered.append(change)
            return True
        return False


async def test_a_call_that_cannot_be_recorded_is_refused_and_nothing_is_left_of_it(file: Database) -> None:
    async with writing(file) as writer:
        store = SqlExecutionStore(file, writer, spill=Notebook(9))
        with locked(file):
            for execution in (row("a"), row("b", request_id="r")):
                with pytest.raises(ToolwrightError) as refused:
                    await store.add(execution)
                failure = refused.value.failure
                assert (failure.reason, failure.metadata) == (Reason.STORE_UNAVAILABLE, {"outcome": "not_started"})
                assert failure.retry_delay == 1.0
        assert len(store) == 0
        assert await store.add(row("c", request_id="r")) is None
    assert await kept(file) == ["c"]


async def test_an_outcome_that_cannot_be_recorded_is_spilled_and_answered_from_memory(file: Database) -> None:
    async with writing(file) as writer:
        spill = Notebook(1)
        store = SqlExecutionStore(file, writer, spill=spill)
        first, second = row("a", request_id="r"), row("b")
        await store.add(first)
        await store.add(second)
        with locked(file):
            await store.settle(ended(first))
            with pytest.raises(RecordFailed) as failed:
                await store.settle(ended(second))
        assert failed.value.failure.reason is Reason.RECORD_FAILED
        (change,) = spill.kept
        assert change.execution is first
        assert await store.get(OWNER, "a") is first
        await writer.submit(change)
        store.forget("a")
        found = await store.get(OWNER, "a")
        assert found is not None
        assert (found is first, found.state) == (False, State.SUCCEEDED)
        lost = await store.get(OWNER, "b")
        assert lost is not None
        assert lost.state is State.QUEUED


async def test_an_outcome_that_cannot_even_be_spilled_is_answered_from_memory_to_whoever_asks_later(
    file: Database,
) -> None:
    async with writing(file) as writer:
        spill = Notebook(0, memory=1)
        store = SqlExecutionStore(file, writer, spill=spill)
        first = row("a", request_id="r", create_time=9e9)
        await store.add(first)
        with locked(file), pytest.raises(RecordFailed):
            await store.settle(ended(first))
        assert [change.execution for change in spill.remembered] == [first]
        assert await store.get(OWNER, "a") is first
        # Neither is it done again, nor does anybody wait for an end that has come.
        assert await store.add(row("b", request_id="r", create_time=9e9)) is first


async def test_an_outcome_is_spilled_also_when_its_caller_has_gone(file: Database) -> None:
    async with writing(file) as writer:
        spill = Notebook(1)
        store = SqlExecutionStore(file, writer, spill=spill)
        execution = row("a")
        await store.add(execution)
        with locked(file):
            settling = asyncio.ensure_future(store.settle(ended(execution)))
            await asyncio.sleep(0)
            settling.cancel()
            await asyncio.wait([settling])
            await writer.flush()
        assert [change.execution for change in spill.kept] == [execution]


async def test_an_intent_in_doubt_is_taken_back_once_the_database_answers(tmp_path: Path) -> None:
    async with opened(tmp_path, 30.0) as database, writing(database, HASTY) as writer:
        store = SqlExecutionStore(database, writer, spill=Notebook(0))
        with locked(database):
            with pytest.raises(ToolwrightError):
                await store.add(row("a", request_id="r", create_time=9e9))
            calm(writer)
        # What was being written is committed, and then what takes it back.
        await writer.flush()
        assert await kept(database, executions.c.state) == [(State.REJECTED.value,)]
        assert await store.add(row("b", request_id="r", create_time=9e9)) is None


async def test_who_is_told_of_the_end_hears_of_each_once(servers: Servers) -> None:
    told: list[str] = []
    store = SqlExecutionStore(servers.database, servers.writer, ended=lambda row: told.append(row.execution_id))
    execution = row("a")
    await store.add(execution)
    await store.settle(ended(execution))
    assert told == ["a"]
