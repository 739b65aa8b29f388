"""That each real database answers a list exactly as memory would."""

import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.databases import database, database_url, postgres
from toolwright_server.conditions import Condition
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.query import ExecutionQuery, asked_for
from toolwright_server.identity import Caller
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.queries import id_at, page
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import executions
from toolwright_server.stores.sql.writer import Writer

from .test_sql_queries import CALLERS, CONDITIONS, START, USERS, WORDS

__all__ = ["database", "database_url", "postgres"]

pytestmark = pytest.mark.asyncio


def history() -> list[Execution]:
    """The same each time: executions, some of them steps of the ones before."""
    chance = random.Random(7)
    made: list[Execution] = []
    for number in range(60):
        execution_id = f"{id_at(START + number / 4)}-7000-8000-{number:012x}"
        root = chance.choice(made) if made and chance.random() < 0.4 else None
        made.append(
            Execution(
                execution_id=execution_id,
                caller=Caller(chance.choice(["acme", "other"]), "key", chance.choice(USERS)),
                tool=chance.choice(WORDS),
                category=chance.choice(WORDS),
                tool_version="1",
                digest=b"",
                server_id=chance.choice(WORDS),
                epoch=1,
                trace_id=chance.choice(WORDS),
                create_time=START + number / 4,
                deadline_time=0.0,
                deadline_source=DeadlineSource.TOOL,
                as_json=True,
                task_id=execution_id if root is None else root.task_id,
                parent_execution_id="" if root is None else root.execution_id,
                request_id=chance.choice(WORDS),
                session_id=chance.choice(WORDS),
                agent_id=chance.choice(WORDS),
                labels={key: chance.choice(WORDS) for key in ("k", 'q"k') if chance.random() < 0.5},
                arguments_bytes=0,
                state=chance.choice(list(State)),
                end_time=chance.choice([None, START + number / 4 + 2]),
            )
        )
    return made


@dataclass
class Listed:
    database: Database
    history: Sequence[Execution]

    async def found(self, caller: Caller, query: ExecutionQuery) -> list[str]:
        asked = page((executions.c.execution_id,), caller, query, sqlite=self.database.options.is_sqlite)
        async with self.database.reading() as connection:
            return list(await connection.scalars(asked))


@pytest_asyncio.fixture
async def listed(database: Database) -> AsyncGenerator[Listed]:
    writer = Writer((SqliteSink if database.options.is_sqlite else PostgresSink)(database.options))
    await writer.open()
    made = history()
    for each in made:
        await writer.submit(Change(each))
    await writer.close()
    yield Listed(database, made)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CALLERS, CONDITIONS, st.integers(1, 40), st.sampled_from(["", id_at(START + 5), id_at(START + 12)]))
async def test_a_page_holds_what_memory_would_answer(
    listed: Listed, caller: Caller, condition: Condition, limit: int, before: str
) -> None:
    query = ExecutionQuery(limit, before, condition)
    newest_first = reversed(listed.history)
    seen = [row.execution_id for row in newest_first if caller.shares_with(row.caller) and asked_for(query, row)]
    assert await listed.found(caller, query) == seen[:limit]
