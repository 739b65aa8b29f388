"""Commits groups to PostgreSQL, on the event loop with one connection: a statement for each kind of change."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from toolwright_server.stores.sql import group, rollups, statements
from toolwright_server.stores.sql.change import Fenced, Linker, NoLinker, Refused, Unavailable, Unkept
from toolwright_server.stores.sql.engine import DatabaseOptions, postgres_engine
from toolwright_server.stores.sql.group import Claim, ClaimKey, Outcome, Pending
from toolwright_server.stores.sql.moves import moved

_logger = logging.getLogger(__name__)

# Classes of SQLSTATE that are about what was to be written: data, integrity, syntax, limits of the program.
_REFUSALS: Final = ("22", "23", "42", "54")
# Serialization failure and deadlock: nothing is wrong, the same group will do.
_AGAIN: Final = ("40001", "40P01")
# A row with this key is there already.
_TAKEN: Final = "23505"
_TRIES: Final = 3


class _AgainError(Exception):
    """The group was rolled back and may be tried at once."""


class PostgresSink:
    """See the module. `lease` is the server id and epoch without which nothing is written."""

    def __init__(
        self,
        options: DatabaseOptions,
        *,
        lease: tuple[str, int] | None = None,
        linker: Linker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._timeout = options.timeout_seconds
        self._begin, self._begun = _begin(lease)
        self._linker = linker or NoLinker()
        self._clock = clock
        self._engine = postgres_engine(options, 1)
        self._connection: AsyncConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()

    def write(self, items: Sequence[Pending], done: Callable[[Outcome], None]) -> None:
        self._task = self._loop.create_task(self._write(items, done))

    async def close(self) -> None:
        await self._disconnect()
        await self._engine.dispose()

    async def _write(self, items: Sequence[Pending], done: Callable[[Outcome], None]) -> None:
        try:
            outcome: Outcome = await self._committed(items)
        except Unkept as error:
            outcome = error
        except Exception as error:  # noqa: BLE001 (whatever a change holds, the others must hear of theirs)
            outcome = _meaning(error)
        done(outcome)

    async def _committed(self, items: Sequence[Pending]) -> list[str | None]:
        for _ in range(_TRIES - 1):
            try:
                return await self._tried(items)
            except _AgainError:
                continue
        try:
            return await self._tried(items)
        except _AgainError as error:
            raise Unavailable(f"PostgreSQL: {error}") from error

    async def _tried(self, items: Sequence[Pending]) -> list[str | None]:
        """One try. Raises _AgainError when nothing was kept and the same may be tried at once."""
        fresh = self._connection is None
        connection = self._connection or await self._connect()
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        committing = False
        try:
            self._check(await raw.execute(self._begin))
            found = await self._written(connection, raw, items)
            committing = True
            await raw.execute("COMMIT")
        except BaseException as error:
            meaning = _meaning(error)
            meaning.in_doubt = committing and isinstance(meaning, Unavailable)
            if meaning.in_doubt:
                self._linker.doubt()
            else:
                self._linker.drop()
            gone = await self._roll_back(raw)
            state = getattr(error, "sqlstate", None)
            # A commit that broke off may have come through meanwhile: then the places of these entries are taken.
            taken = state == _TAKEN and self._linker.doubts()
            # A connection that died since the last group says nothing about the server.
            if state in _AGAIN or taken or (gone and not fresh and not committing):
                raise _AgainError(str(error)) from error
            raise meaning from error
        self._linker.keep()
        return found

    def _check(self, answer: str) -> None:
        if answer != self._begun:
            raise Fenced("this server's lease was taken over")

    async def _written(self, connection: AsyncConnection, raw: Any, items: Sequence[Pending]) -> list[str | None]:
        frees = [item.free for item in items if item.free is not None]
        if frees:
            await raw.executemany(statements.POSTGRES_FREE, frees)
        claimed = group.claims(items)
        lost = group.results(items, await self._claim(raw, claimed) if claimed else {})
        rows = group.rows(items, lost)
        if rows:
            insert = statements.POSTGRES_EXECUTIONS
            await raw.execute(insert.text, *insert.arrays(rows))
        for item, work in group.works(items, lost):
            item.found = await connection.run_sync(work)
        for statement, parameters in group.statements(items, lost):
            await connection.execute(statement, parameters)
        moves = group.moves(items, lost)
        if moves:
            await connection.run_sync(moved, items, moves, self._clock())
        for text, arrays in rollups.postgres_statements(group.uses(items, lost)):
            await raw.execute(text, *arrays)
        entries = group.entries(items, lost)
        if entries:
            for head in self._linker.doubts():
                if await raw.fetchval(statements.POSTGRES_LINKED, *head) is not None:
                    self._linker.resolve(head)
            insert = statements.POSTGRES_ENTRIES
            await raw.execute(insert.text, *insert.arrays(self._linker.link(entries)))
        return lost

    async def _claim(self, raw: Any, claimed: dict[ClaimKey, Claim]) -> dict[ClaimKey, str]:
        """Who holds each key now. Waits for other servers that are claiming the same ones."""
        insert = statements.POSTGRES_CLAIMS
        found = await raw.fetch(insert.text, *insert.arrays(list(claimed.values())), self._clock())
        won = {row[0] for row in found}
        holders: dict[ClaimKey, str] = {}
        for key, claim in claimed.items():
            holder = claim[3] if claim[3] in won else await raw.fetchval(statements.POSTGRES_HOLDER, *key)
            if holder is None:
                raise _AgainError("a claim ended while it was looked at")
            holders[key] = holder
        return holders

    async def _connect(self) -> AsyncConnection:
        try:
            self._connection = await self._engine.connect()
        except (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError) as error:
            raise Unavailable(f"PostgreSQL: {_text(error)}") from error
        return self._connection

    async def _roll_back(self, raw: Any) -> bool:
        """End the transaction; True when the connection is gone, and with it the transaction."""
        try:
            if not raw.is_closed():
                await raw.execute("ROLLBACK", timeout=self._timeout)
                return False
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass
        await self._disconnect()
        return True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.invalidate()
            await connection.close()
        except (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError):
            _logger.debug("a lost connection could not be closed", exc_info=True)


def _begin(lease: tuple[str, int] | None) -> tuple[str, str]:
    """What begins a group, and what PostgreSQL answers when it may go on."""
    if lease is None:
        return "BEGIN", "BEGIN"
    server_id, epoch = lease
    quoted = "'" + server_id.replace("'", "''") + "'"
    return statements.POSTGRES_BEGIN_FENCED.format(server_id=quoted, epoch=int(epoch)), "SELECT 1"


def _meaning(error: BaseException) -> Unkept:
    if isinstance(error, Unkept):
        return error
    cause = (error.orig or error) if isinstance(error, DBAPIError) else error
    state: str | None = getattr(cause, "sqlstate", None)
    if state is not None and state[:2] in _REFUSALS:
        return Refused(f"PostgreSQL: {_text(error)}")
    if isinstance(cause, asyncpg.DataError | ValueError | TypeError | OverflowError):
        return Refused(f"{type(cause).__name__}: {cause}")
    if state is not None or isinstance(cause, OSError | TimeoutError | asyncpg.InterfaceError | SQLAlchemyError):
        return Unavailable(f"PostgreSQL: {_text(error)}")
    return Refused(f"{type(cause).__name__}: {cause}")


def _text(error: BaseException) -> str:
    """What the driver said: one line, without parameters."""
    cause = (error.orig or error) if isinstance(error, DBAPIError) else error
    return (str(cause).splitlines() or [""])[0] or type(cause).__name__
