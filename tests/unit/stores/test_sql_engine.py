import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.databases import NoPostgresError, Postgres, find_binaries
from toolwright_server.errors import SettingsError
from toolwright_server.stores.sql import migrating, tables
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate

pytestmark = pytest.mark.asyncio

HOLD = """
import pathlib, signal, sys
from toolwright_server.stores.sql.ownership import own
held = own(pathlib.Path(sys.argv[1]))
print("held", flush=True)
signal.pause()
"""
START_POSTGRES = """
import pathlib, signal, sys, tempfile
from tests.databases import Postgres
server = Postgres(pathlib.Path(sys.argv[1]))
server.create()
server.start()
print(server.process.pid, flush=True)
signal.pause()
"""


def started(program: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def line(process: "subprocess.Popen[str]") -> str:
    """The first line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def killed(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate(timeout=10)


def differences(connection: sa.Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), tables.metadata))


async def test_the_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(migrating.current) == tables.REVISION


async def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(migrating.FOLDER)).get_heads() == [tables.REVISION]


async def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(database_url: str, tmp_path: Path) -> None:
    options = DatabaseOptions(locate(database_url, tmp_path))
    await (await Database.open(options)).close()
    await changed(options, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match=r"newer release \(schema 9999"):
        await Database.open(options)
    await changed(options, f"UPDATE alembic_version SET version_num = '{tables.REVISION}'")
    await (await Database.open(options)).close()


async def changed(options: DatabaseOptions, statement: str) -> None:
    engine = create_async_engine(options.url)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(statement)
    await engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def untouched_url(request: pytest.FixtureRequest) -> str:
    """A database of each kind without tables."""
    return request.getfixturevalue("postgres").make_database() if request.param == "postgres" else ""


async def test_many_that_start_at_once_on_an_empty_database_find_it_ready(untouched_url: str, tmp_path: Path) -> None:
    options = DatabaseOptions(locate(untouched_url, tmp_path), owned=False, timeout_seconds=30.0)
    opened = await asyncio.gather(*(Database.open(options) for _ in range(6)))
    for each in opened:
        async with each.reading() as connection:
            assert await connection.run_sync(differences) == []
        await each.close()


async def test_a_start_waits_for_another_one_that_changes_the_tables_longer_than_any_call_waits(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = locate(await asyncio.to_thread(postgres.make_database), tmp_path)
    engine = create_async_engine(url)
    async with engine.connect() as other:
        await other.execute(sa.text(f"SELECT pg_advisory_xact_lock({migrating.LOCK})"))
        opening = asyncio.create_task(Database.open(DatabaseOptions(url, timeout_seconds=1.0)))
        await asyncio.wait([opening], timeout=2.0)
        assert not opening.done()
        await other.rollback()
    opened = await asyncio.wait_for(opening, 30)
    await opened.close()
    await engine.dispose()


async def test_a_second_server_on_one_file_is_refused_and_told_which_process_has_it(tmp_path: Path) -> None:
    options = DatabaseOptions(locate("", tmp_path))
    first = await Database.open(options)
    with pytest.raises(SettingsError, match=rf"another server \(process {os.getpid()}\) uses the database"):
        await Database.open(options)
    await first.close()
    await (await Database.open(options)).close()


async def test_a_killed_server_leaves_its_file_to_the_next(tmp_path: Path) -> None:
    holder = started(HOLD, str(tmp_path / "toolwright.sqlite3"))
    assert line(holder) == "held"
    options = DatabaseOptions(locate("", tmp_path))
    with pytest.raises(SettingsError, match=rf"process {holder.pid}\)"):
        await Database.open(options)
    killed(holder)
    await (await Database.open(options)).close()


async def test_nobody_else_on_the_machine_can_read_the_file(tmp_path: Path) -> None:
    database = await Database.open(DatabaseOptions(locate("", tmp_path / "new")))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").glob("*.sqlite3*")}
    await database.close()
    assert modes["toolwright.sqlite3"] == 0o600
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


async def test_reading_cannot_write_to_the_file(tmp_path: Path) -> None:
    database = await Database.open(DatabaseOptions(locate("", tmp_path)))
    async with database.reading() as connection:
        with pytest.raises(OperationalError, match="readonly"):
            await connection.exec_driver_sql("DELETE FROM executions")
    await database.close()


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql://ann@db/x", "postgresql+asyncpg"),
        ("postgres://ann@db/x", "postgresql+asyncpg"),
        ("sqlite:////tmp/x", "sqlite+aiosqlite"),
    ],
)
async def test_urls_are_given_the_driver_that_is_used(given: str, driver: str, tmp_path: Path) -> None:
    assert locate(given, tmp_path).drivername == driver


@pytest.mark.parametrize(
    "given", ["mysql://ann:s3cret@db/x", "sqlite://", "s3cret", "postgresql+psycopg://s3cret@db/x"]
)
async def test_other_urls_are_refused_without_telling_the_password(given: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="postgresql://") as refused:
        locate(given.replace("s3cret@db", "ann:s3cret@db"), tmp_path)
    assert "s3cret" not in str(refused.value)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"file/toolwright\.sqlite3 cannot be opened"):
        await Database.open(DatabaseOptions(locate("", tmp_path / "file")))


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "toolwright.sqlite3").write_bytes(b"not a database at all" * 1_000)
    with pytest.raises(SettingsError, match="file is not a database"):
        await Database.open(DatabaseOptions(locate("", tmp_path)))


async def test_a_server_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    url = locate(f"postgresql://ann:s3cret@/x?host={tmp_path}", tmp_path)
    with pytest.raises(SettingsError, match="cannot be opened") as refused:
        await Database.open(DatabaseOptions(url))
    assert "s3cret" not in str(refused.value)


async def test_the_postgres_of_the_tests_dies_with_whoever_started_it() -> None:
    try:
        find_binaries()
    except NoPostgresError as error:
        pytest.skip(f"PostgreSQL cannot run here: {error}")
    with tempfile.TemporaryDirectory(prefix="tw-pg-") as folder:
        starter = started(START_POSTGRES, folder)
        descriptor = os.pidfd_open(int(line(starter)))
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, ended.set)
        killed(starter)
        await asyncio.wait_for(ended.wait(), 20)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
