"""That SQL answers a list exactly as memory would, and by which index it does."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from toolwright_server.conditions import All, Comparison, Condition, Either, Not, Relation
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.query import FIELDS, TIMES, ExecutionQuery, asked_for
from toolwright_server.identity import Caller, Role
from toolwright_server.stores.sql import rows
from toolwright_server.stores.sql.queries import id_at, page
from toolwright_server.stores.sql.statements import Values
from toolwright_server.stores.sql.tables import executions, metadata

START = 1_795_000_000.0
USERS = ("ann", "bob", "eve")
WORDS = ("", "a", "A", "ab", "a%", "crm.get", 'q"uo', "ünï", "x'--")
TIMES_ASKED = tuple(START + seconds for seconds in (-3_600, 0, 3, 5.5, 10, 100, 3_600))

CALLERS = st.one_of(
    st.builds(
        Caller,
        tenant=st.sampled_from(["acme", "other", "none"]),
        principal=st.just("key"),
        user=st.sampled_from(USERS),
        role=st.sampled_from(Role),
        acts_for=st.sets(st.sampled_from([*USERS, "nobody"]), max_size=3).map(frozenset),
    ),
    st.just(Caller("acme", "key", "ann", acts_for=frozenset({"*"}))),
    # More users than are gathered one by one.
    st.just(Caller("acme", "key", "ann", acts_for=frozenset({"bob", *map(str, range(40))}))),
)


def compared(field: str, relation: Relation, value: str | float) -> Comparison:
    return Comparison(field, relation, "" if relation is Relation.EXISTS else value)


LEAVES = st.one_of(
    st.builds(
        compared,
        st.sampled_from(
            [name for name in FIELDS if name not in {*TIMES, "state"}] + ["labels.k", 'labels.q"k', "labels.n"]
        ),
        st.sampled_from([Relation.EQUAL, Relation.PREFIX, Relation.EXISTS]),
        st.sampled_from(WORDS) | st.sampled_from([*USERS, "task", id_at(START + 3)]),
    ),
    st.builds(compared, st.just("state"), st.just(Relation.EQUAL), st.sampled_from([state.name for state in State])),
    st.builds(
        compared,
        st.sampled_from(TIMES),
        st.sampled_from([each for each in Relation if each is not Relation.PREFIX]),
        st.sampled_from(TIMES_ASKED),
    ),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: Either(tuple(parts))),
    ),
    max_leaves=5,
)


@st.composite
def histories(draw: st.DrawFn) -> list[Execution]:
    """Executions made one after another, some of them steps of the ones before."""
    made: list[Execution] = []
    for number in range(draw(st.integers(0, 12))):
        word = st.sampled_from(WORDS)
        execution_id = f"{id_at(START + number)}-7000-8000-{number:012x}"
        root = draw(st.sampled_from(made)) if made and draw(st.booleans()) else None
        made.append(
            Execution(
                execution_id=execution_id,
                caller=Caller(draw(st.sampled_from(["acme", "other"])), "key", draw(st.sampled_from(USERS))),
                tool=draw(word),
                category=draw(word),
                tool_version="1",
                digest=b"",
                server_id=draw(word),
                epoch=1,
                trace_id=draw(word),
                create_time=START + number + draw(st.sampled_from([0, 0.25])),
                deadline_time=0.0,
                deadline_source=DeadlineSource.TOOL,
                as_json=True,
                task_id=execution_id if root is None else root.task_id,
                parent_execution_id="" if root is None else root.execution_id,
                request_id=draw(word),
                session_id=draw(word),
                agent_id=draw(word),
                labels=draw(st.dictionaries(st.sampled_from(["k", 'q"k']), word)),
                arguments_bytes=0,
                state=draw(st.sampled_from(State)),
                end_time=draw(st.none() | st.just(START + number + 2)),
            )
        )
    return made


def filled(history: Sequence[Execution]) -> sqlite3.Connection:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        schema = list(connection.scalars(sa.text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")))
    engine.dispose()
    raw = sqlite3.connect(":memory:")
    for statement in schema:
        raw.execute(statement)
    for text, values in Values(executions).batches([rows.values(each) for each in history]):
        raw.execute(text, values)
    return raw


def found(database: sqlite3.Connection, caller: Caller, query: ExecutionQuery, before: str = "") -> list[Any]:
    asked = page((executions.c.execution_id,), caller, query, sqlite=True)
    compiled = asked.compile(dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True})
    return database.execute(before + str(compiled), compiled.params).fetchall()


@settings(deadline=None, max_examples=100)
@given(histories(), CALLERS, CONDITIONS, st.integers(1, 6))
def test_sqlite_finds_what_memory_would_find(
    history: list[Execution], caller: Caller, condition: Condition, limit: int
) -> None:
    database = filled(history)
    before = ""
    seen: list[str] = []
    while True:
        query = ExecutionQuery(limit, before, condition)
        ids = [execution_id for (execution_id,) in found(database, caller, query)]
        seen += ids
        if len(ids) < limit:
            break
        before = ids[-1]
    database.close()
    query = ExecutionQuery(limit, "", condition)
    assert seen == [
        row.execution_id for row in reversed(history) if caller.shares_with(row.caller) and asked_for(query, row)
    ]


@given(CALLERS, CONDITIONS)
def test_whatever_is_asked_can_be_compiled_for_postgresql(caller: Caller, condition: Condition) -> None:
    asked = page((executions.c.execution_id,), caller, ExecutionQuery(3, "", condition), sqlite=False)
    assert "json_each" not in str(asked.compile(dialect=postgresql.dialect()))


@pytest.fixture(scope="module")
def empty() -> Iterator[sqlite3.Connection]:
    database = filled(())
    yield database
    database.close()


AGENT = Caller("acme", "key", "ann")
TWO = Caller("acme", "key", "ann", acts_for=frozenset({"bob"}))
OPERATOR = Caller("acme", "key", "ann", role=Role.OPERATOR)
ADMIN = Caller("acme", "key", "ann", role=Role.ADMIN)


def is_(field: str, value: str | float) -> Comparison:
    return Comparison(field, Relation.EQUAL, value)


@pytest.mark.parametrize(
    ("caller", "condition", "index"),
    [
        (AGENT, All(), "executions_of_user"),
        (AGENT, is_("tool", "x"), "executions_of_user"),
        (TWO, All(), "executions_of_user"),
        (OPERATOR, All(), "executions_of_tenant"),
        (OPERATOR, is_("user_id", "bob"), "executions_of_user"),
        (ADMIN, All(), "executions_pk"),
        (OPERATOR, is_("state", "FAILED"), "executions_failed"),
        (OPERATOR, All((is_("state", "OUTCOME_UNKNOWN"), is_("tool", "x"))), "executions_failed"),
        (OPERATOR, is_("state", "RUNNING"), "executions_unfinished"),
        (AGENT, is_("state", "QUEUED"), "executions_unfinished"),
        (OPERATOR, is_("session_id", "s"), "executions_of_session"),
        (AGENT, is_("session_id", "s"), "executions_of_session"),
        (AGENT, is_("task_id", "t"), "executions_of_task"),
        (OPERATOR, is_("task_id", "t"), "executions_of_task"),
        (ADMIN, is_("task_id", "t"), "executions_of_task"),
        (OPERATOR, Comparison("create_time", Relation.AFTER, START), "tenant=? AND execution_id>"),
        (OPERATOR, Comparison("end_time", Relation.BEFORE, START), "tenant=? AND execution_id<"),
    ],
)
def test_a_list_goes_down_an_index(empty: sqlite3.Connection, caller: Caller, condition: Condition, index: str) -> None:
    for before in ("", "01"):
        query = replace(ExecutionQuery(50, "", condition), before=before)
        plan = "\n".join(line[-1] for line in found(empty, caller, query, "EXPLAIN QUERY PLAN "))
        # Primary keys of SQLite are indexes that it names itself.
        assert index.replace("executions_pk", "sqlite_autoindex_executions_1") in plan
        assert "SCAN executions\n" not in f"{plan}\n"
        # Sorted are only the few rows of a task or that run now, and pages that were put together.
        few = index in {"executions_of_task", "executions_unfinished"}
        assert ("TEMP B-TREE" in plan) <= (few or caller is TWO)


def test_a_time_becomes_a_bound_of_ids() -> None:
    assert id_at(START) == "01a1ee56-5e00"
    assert id_at(-5.0) == "00000000-0000"
    assert id_at(1e18) == "ffffffff-ffff"
    assert id_at(START) < f"{id_at(START)}-7000-8000-000000000000" < id_at(START + 0.001)
