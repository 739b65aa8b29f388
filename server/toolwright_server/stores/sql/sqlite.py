"""Commits groups to SQLite, in a thread of its own with one connection: one hop there and back for each group."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from toolwright_server.stores.sql import group, rollups, statements
from toolwright_server.stores.sql.change import Entry, Fenced, Linker, NoLinker, Refused, Unavailable, Unkept
from toolwright_server.stores.sql.engine import DatabaseOptions, sqlite_engine
from toolwright_server.stores.sql.group import Claim, ClaimKey, Outcome, Pending
from toolwright_server.stores.sql.moves import moved

_logger = logging.getLogger(__name__)

# What says that the file cannot be used now. All else is about what was to be written.
_FILE_ERRORS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)

_Job = tuple[Sequence[Pending], Callable[[Outcome], None]]


class SqliteSink:
    """See the module. `lease` is the server id and epoch without which nothing is written."""

    def __init__(
        self,
        options: DatabaseOptions,
        *,
        lease: tuple[str, int] | None = None,
        linker: Linker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._lease = lease
        self._linker = linker or NoLinker()
        self._clock = clock
        self._engine = sqlite_engine(options)
        self._connection: sa.Connection | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="toolwright-writer", daemon=True)

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def write(self, items: Sequence[Pending], done: Callable[[Outcome], None]) -> None:
        self._jobs.put((items, done))

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            items, done = job
            outcome = self._outcome(items)
            try:
                self._loop.call_soon_threadsafe(done, outcome)
            except RuntimeError:
                _logger.exception("the event loop was closed before its writer")
                break
        self._disconnect()

    def _outcome(self, items: Sequence[Pending]) -> Outcome:
        try:
            return self._committed(items)
        except Unkept as error:
            return error
        except BaseException as error:  # noqa: BLE001 (the thread must live on, whatever a change holds)
            return _meaning(error)

    def _committed(self, items: Sequence[Pending]) -> list[str | None]:
        connection = self._connection or self._connect()
        cursor: sqlite3.Cursor = connection.connection.driver_connection.cursor()  # pyright: ignore[reportOptionalMemberAccess]
        committing = False
        try:
            cursor.execute("BEGIN IMMEDIATE")
            found = self._written(connection, cursor, items)
            committing = True
            cursor.execute("COMMIT")
        except BaseException as error:
            if committing:
                # The log may hold all of it although it could not be brought to disk.
                self._linker.doubt()
            else:
                self._linker.drop()
            self._roll_back(cursor, error)
            raise
        self._linker.keep()
        return found

    def _written(self, connection: sa.Connection, cursor: sqlite3.Cursor, items: Sequence[Pending]) -> list[str | None]:
        if self._lease is not None and cursor.execute(statements.SQLITE_FENCE, self._lease).fetchone() is None:
            raise Fenced("this server's lease was taken over")
        frees = [item.free for item in items if item.free is not None]
        if frees:
            cursor.executemany(statements.SQLITE_FREE, frees)
        claimed = group.claims(items)
        lost = group.results(items, self._claim(cursor, claimed) if claimed else {})
        for text, values in statements.SQLITE_EXECUTIONS.batches(group.rows(items, lost)):
            cursor.execute(text, values)
        for item, work in group.works(items, lost):
            item.found = work(connection)
        for statement, parameters in group.statements(items, lost):
            connection.execute(statement, parameters)
        moves = group.moves(items, lost)
        if moves:
            moved(connection, items, moves, self._clock())
        for text, values in rollups.sqlite_statements(group.uses(items, lost)):
            cursor.execute(text, values)
        entries = group.entries(items, lost)
        if entries:
            self._link(cursor, entries)
        return lost

    def _link(self, cursor: sqlite3.Cursor, entries: Sequence[Entry]) -> None:
        for head in self._linker.doubts():
            if cursor.execute(statements.SQLITE_LINKED, head).fetchone() is not None:
                self._linker.resolve(head)
        for text, values in statements.SQLITE_ENTRIES.batches(self._linker.link(entries)):
            cursor.execute(text, values)

    def _claim(self, cursor: sqlite3.Cursor, claimed: dict[ClaimKey, Claim]) -> dict[ClaimKey, str]:
        """Who holds each key now."""
        won: set[str] = set()
        for text, values in statements.SQLITE_CLAIMS.batches(list(claimed.values()), self._clock()):
            won.update(row[0] for row in cursor.execute(text, values).fetchall())
        return {
            key: claim[3] if claim[3] in won else cursor.execute(statements.SQLITE_HOLDER, key).fetchone()[0]
            for key, claim in claimed.items()
        }

    def _connect(self) -> sa.Connection:
        connection = self._engine.connect()
        rollups.prepare(connection.connection.driver_connection)  # pyright: ignore[reportArgumentType]
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except Exception:
            _logger.exception("the database could not be closed cleanly")

    def _roll_back(self, cursor: sqlite3.Cursor, error: BaseException) -> None:
        try:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()
        else:
            if isinstance(_meaning(error), Unavailable):
                # The file may have been replaced under us: look at it anew.
                self._disconnect()


def _meaning(error: BaseException) -> Unkept:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, Unkept):
        return error
    code: int | None = getattr(cause, "sqlite_errorcode", None)
    if isinstance(cause, sqlite3.Error) and code is not None and code & 0xFF in _FILE_ERRORS:
        return Unavailable(f"SQLite: {cause}")
    if isinstance(cause, OSError | MemoryError):
        return Unavailable(str(cause) or type(cause).__name__)
    return Refused(f"{type(cause).__name__}: {cause}")
