"""Databases that are locked, full, read-only, killed or stopped under the writer."""

import asyncio
import contextlib
import os
import random
import resource
import sqlite3
import threading
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from tests.databases import Postgres
from toolwright_server.stores.sql.change import Change, Refused, Unavailable
from toolwright_server.stores.sql.engine import FILE_NAME, Database, DatabaseOptions, locate
from toolwright_server.stores.sql.tables import request_ids

from .written import HASTY, calm, kept, opened, row, writing

pytestmark = pytest.mark.asyncio

WRITER_THREAD = "toolwright-writer"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest_asyncio.fixture
async def file(path: Path) -> AsyncGenerator[Database]:
    async with opened(path.parent, 0.2) as database:
        yield database


@contextlib.contextmanager
def locked(path: Path) -> Generator[sqlite3.Connection]:
    """Somebody else is writing to the file."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        other.execute("ROLLBACK")
        other.close()


async def test_a_locked_file_fails_the_change_and_is_written_to_when_it_is_free(
    file: Database, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with writing(file) as writer:
        with locked(path):
            with pytest.raises(Unavailable, match="database is locked") as failed:
                await writer.submit(Change(row("a")))
            assert not failed.value.in_doubt
            assert writer.failing
            with pytest.raises(Unavailable):
                await writer.submit(Change(row("b")))
        await writer.submit(Change(row("c")))
        assert not writer.failing
    assert await kept(file) == ["c"]
    assert [record.message for record in caplog.records if record.name.endswith("writer")] == [
        "nothing can be recorded: SQLite: database is locked",
        "the database takes records again",
    ]


async def test_what_waits_too_long_is_withdrawn_and_what_is_being_written_is_in_doubt(path: Path) -> None:
    async with opened(path.parent, 30.0) as database, writing(database, HASTY) as writer:
        with locked(path):
            flying = writer.submit(Change(row("a")))
            await asyncio.sleep(0)
            queued = writer.submit(Change(row("b")))
            with pytest.raises(Unavailable, match=r"longer than 0\.1 s") as first:
                await flying
            with pytest.raises(Unavailable, match=r"longer than 0\.1 s") as second:
                await queued
            assert (first.value.in_doubt, second.value.in_doubt) == (True, False)
            calm(writer)
        await writer.submit(Change(row("c")))
        assert await kept(database) == ["a", "c"]


async def test_a_full_disk_fails_the_change_and_leaves_the_rest_whole(file: Database, path: Path) -> None:
    async with writing(file) as writer:
        await writer.submit(Change(row("a")))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        log = path.with_name(path.name + "-wal")
        # A file that may not grow is to SQLite what a full disk is.
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 10_000, before[1]))
        try:
            with pytest.raises(Unavailable):
                await writer.submit(Change(row("b", arguments=b"x" * 1_000_000)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        await writer.submit(Change(row("c")))
    assert await kept(file) == ["a", "c"]
    with sqlite3.connect(path) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    reader.close()


async def test_a_file_that_is_no_database_any_more_fails_the_change(file: Database, path: Path) -> None:
    async with writing(file) as writer:
        await writer.submit(Change(row("a")))
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            await asyncio.to_thread(path.write_bytes, b"no database any more" * 4_096)
        other.close()
        with pytest.raises(Unavailable):
            await writer.submit(Change(row("b")))


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_postgres_that_is_read_only_fails_the_change_and_takes_the_next(database: Database) -> None:
    async with writing(database) as writer:
        await switched(database, "on")
        with pytest.raises(Unavailable, match="read-only transaction"):
            await writer.submit(Change(row("a")))
        await switched(database, "off")
        await writer.submit(Change(row("b")))
    assert await kept(database) == ["b"]


async def switched(database: Database, read_only: str) -> None:
    """Whether connections that are made from now on can write; the ones that are there end."""
    name = database.options.url.database
    async with database.reading() as connection:
        await connection.exec_driver_sql("SET default_transaction_read_only = off")
        await connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = {read_only}")
    await hung_up(database)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_connection_that_died_unused_is_replaced_without_a_failure(database: Database) -> None:
    async with writing(database) as writer:
        for name in ("a", "b", "c"):
            await writer.submit(Change(row(name)))
            await hung_up(database)
    assert await kept(database) == ["a", "b", "c"]


async def hung_up(database: Database) -> None:
    """End every other connection to the database."""
    statement = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with database.reading() as connection:
        await connection.exec_driver_sql(statement)


async def test_a_stopped_postgres_fails_changes_and_takes_them_when_it_is_back(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    url = await asyncio.to_thread(own_postgres.make_database)
    database = await Database.open(DatabaseOptions(locate(url, tmp_path), timeout_seconds=20.0))
    async with writing(database) as writer:
        await writer.submit(Change(row("a")))
        await asyncio.to_thread(own_postgres.stop)
        for name in ("b", "c"):
            with pytest.raises(Unavailable) as failed:
                await writer.submit(Change(row(name)))
            assert not failed.value.in_doubt
        await asyncio.to_thread(own_postgres.start)
        await writer.submit(Change(row("d")))
        assert not writer.failing
    assert await kept(database) == ["a", "d"]
    await database.close()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_servers_that_claim_the_same_request_ids_at_once_agree_on_the_holders(database: Database) -> None:
    chance = random.Random(1)
    async with writing(database) as one, writing(database) as two, writing(database) as three:
        writers = {"1": one, "2": two, "3": three}
        keys = [f"r{number}" for number in range(100)]
        waiting: dict[str, asyncio.Future[str | None]] = {}
        for wave in range(5):
            for name, writer in writers.items():
                for key in chance.sample(keys, len(keys)):
                    execution = row(f"{name}-{wave}-{key}", request_id=key, create_time=9e9)
                    waiting[execution.execution_id] = writer.submit(Change(execution, claims=True))
            await asyncio.sleep(0)
        holders = {execution_id: await future for execution_id, future in waiting.items()}
    won = sorted(execution_id for execution_id, holder in holders.items() if holder is None)
    assert sorted(execution_id.split("-")[2] for execution_id in won) == sorted(keys)
    assert {holder for holder in holders.values() if holder is not None} == set(won)
    assert await kept(database) == won
    async with database.reading() as connection:
        assert (await connection.execute(sa.select(sa.func.count()).select_from(request_ids))).scalar() == len(keys)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_text_that_postgres_cannot_hold_is_refused_alone(database: Database) -> None:
    async with writing(database) as writer:
        bad = writer.submit(Change(row("a", session_id="nul \0")))
        good = writer.submit(Change(row("b")))
        with pytest.raises(Refused, match="invalid byte sequence"):
            await bad
        await good
    assert await kept(database) == ["b"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_writers_thread_and_its_connection_end_with_it(database: Database) -> None:
    async with writing(database) as writer:
        await writer.submit(Change(row("a")))
        assert WRITER_THREAD in {thread.name for thread in threading.enumerate()}
        assert descriptors(database) > 0
    assert WRITER_THREAD not in {thread.name for thread in threading.enumerate()}
    assert descriptors(database) == 0


def descriptors(database: Database) -> int:
    """How many descriptors of this process are of the database file."""
    links = (os.path.realpath(each) for each in Path("/proc/self/fd").iterdir())
    return sum(link == os.path.realpath(str(database.options.url.database)) for link in links)
