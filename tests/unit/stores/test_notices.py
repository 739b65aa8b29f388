"""Servers of one PostgreSQL hear of each other's commits, also after the connection was lost."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from tests.databases import Postgres
from toolwright_server.stores.sql.engine import DatabaseOptions, locate, postgres_engine
from toolwright_server.stores.sql.notices import PostgresNotices
from toolwright_server.stores.sql.notifying import notify

pytestmark = pytest.mark.asyncio
PATIENCE = 20.0


class Heard:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = asyncio.Condition()

    def __call__(self) -> None:
        self.count += 1
        self._telling = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def times(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(lambda: self.count >= count)


@pytest_asyncio.fixture
async def options(postgres: Postgres, tmp_path: Path) -> DatabaseOptions:
    url = await asyncio.to_thread(postgres.make_database)
    return DatabaseOptions(locate(url, tmp_path), timeout_seconds=10.0)


@pytest_asyncio.fixture
async def notices(options: DatabaseOptions) -> AsyncGenerator[PostgresNotices]:
    made = PostgresNotices(options)
    yield made
    await made.close()


async def transact(options: DatabaseOptions, end: str, *topics: str, other: str = "") -> None:
    """A transaction with these notices and perhaps a statement."""
    engine = postgres_engine(options, 1)

    def work(connection: sa.Connection) -> None:
        for topic in topics:
            notify(connection, topic)

    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("BEGIN")
            await connection.run_sync(work)
            if other:
                await connection.exec_driver_sql(other)
            await connection.exec_driver_sql(end)
    finally:
        await engine.dispose()


async def test_a_commit_wakes_who_listens_to_its_topic(options: DatabaseOptions, notices: PostgresNotices) -> None:
    cats, dogs = Heard(), Heard()
    notices.listen("cats", cats)
    notices.listen("dogs", dogs)
    notices.start()
    await dogs.times(1)
    await transact(options, "COMMIT", "cats", "cats", "mice")
    await cats.times(2)
    assert (cats.count, dogs.count) == (2, 1)


async def test_what_is_rolled_back_wakes_nobody(options: DatabaseOptions, notices: PostgresNotices) -> None:
    cats = Heard()
    notices.listen("cats", cats)
    notices.start()
    await cats.times(1)
    await transact(options, "ROLLBACK", "cats")
    await transact(options, "COMMIT", "cats")
    await cats.times(2)
    assert cats.count == 2


async def test_a_lost_connection_is_replaced_and_everybody_woken(
    options: DatabaseOptions, notices: PostgresNotices
) -> None:
    cats = Heard()
    notices.listen("cats", cats)
    notices.start()
    await cats.times(1)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
    await transact(options, "COMMIT", other=f"{others} current_database()")
    await cats.times(2)
    await transact(options, "COMMIT", "cats")
    await cats.times(3)


async def test_on_sqlite_there_is_nobody_to_tell() -> None:
    engine: Any = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        notify(connection, "cats")
    engine.dispose()
