"""Writers for tests, on any database, and what is in the tables as any other server sees it."""

import contextlib
import sqlite3
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.contracts.executions import row
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.stores.sql.change import Linker
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.group import Sink
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import executions
from toolwright_server.stores.sql.writer import Writer, WriterOptions

__all__ = ["HASTY", "broken", "calm", "ended", "kept", "locked", "opened", "row", "sink_of", "writing"]

PATIENT = WriterOptions(timeout_seconds=30.0)
HASTY = WriterOptions(timeout_seconds=0.1)


def calm(writer: Writer) -> None:
    """From now on it waits as long as others do: a busy machine must not make a test fail."""
    writer._options = PATIENT  # pyright: ignore[reportPrivateUsage]


@contextlib.asynccontextmanager
async def opened(folder: Path, timeout_seconds: float) -> AsyncGenerator[Database]:
    """A SQLite file that is waited for so long when it is locked."""
    database = await Database.open(
        DatabaseOptions(locate("", folder), timeout_seconds=timeout_seconds, synchronous="off")
    )
    try:
        yield database
    finally:
        await database.close()


def sink_of(
    options: DatabaseOptions, *, lease: tuple[str, int] | None = None, linker: Linker | None = None
) -> SqliteSink | PostgresSink:
    return (SqliteSink if options.is_sqlite else PostgresSink)(options, lease=lease, linker=linker)


@contextlib.asynccontextmanager
async def writing(
    database: Database,
    options: WriterOptions = PATIENT,
    *,
    sink: Sink | None = None,
    lease: tuple[str, int] | None = None,
    linker: Linker | None = None,
) -> AsyncGenerator[Writer]:
    writer = Writer(sink or sink_of(database.options, lease=lease, linker=linker), options)
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


async def kept(database: Database, *columns: sa.Column[Any]) -> list[Any]:
    """What is committed, by id: the ids, or rows of these columns."""
    chosen = columns or (executions.c.execution_id,)
    async with database.reading() as connection:
        found: Sequence[Any] = (
            await connection.execute(sa.select(*chosen).select_from(executions).order_by(executions.c.execution_id))
        ).all()
    return [tuple(each) if columns else each[0] for each in found]


def broken(execution_id: str) -> Execution:
    """A row that no database takes: it must have a tool."""
    return row(execution_id, tool=None)


def ended(execution: Execution, result: bytes = b"null") -> Execution:
    if execution.state is State.QUEUED:
        execution.move(State.RUNNING)
    execution.move(State.SUCCEEDED)
    execution.result, execution.end_time, execution.stopped = result, 1_001.0, Stopped.YES
    return execution


@contextlib.contextmanager
def locked(database: Database) -> Generator[None]:
    """Somebody else is writing to the file."""
    other = sqlite3.connect(str(database.options.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
