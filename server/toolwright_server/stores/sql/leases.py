"""Leases in the table `servers`. The clock is PostgreSQL's; on SQLite that of the only machine that there is.

Renewals and endings go through the writer, whose groups all begin with a look at the own lease: who lost it hears of
it there. Registering and releasing cannot: before the one and after the other there is no lease to look at.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.stores.sql.change import Change, Entry, Fenced, Unkept
from toolwright_server.stores.sql.engine import Database, sqlite_engine
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import servers
from toolwright_server.stores.sql.writer import Writer

_POSTGRES_NOW: Final = sa.text("extract(epoch FROM clock_timestamp())::double precision")


class SqlLeases:
    """See the module. `address` is where the server can be reached, for people; `clock` is for SQLite alone."""

    def __init__(
        self, database: Database, writer: Writer, address: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._writer = writer
        self._address = address
        self._clock = clock

    async def register(self, lease: Lease, seconds: float) -> None:
        def work(connection: sa.Connection) -> None:
            now = self._now(connection)
            gone = sa.delete(servers)
            if not self._alone:
                gone = gone.where(servers.c.server_id == lease.server_id)
            connection.execute(gone)
            row = {"server_id": lease.server_id, "epoch": lease.epoch, "address": self._address}
            connection.execute(sa.insert(servers).values(**row, start_time=now, lease_time=now + seconds))

        await self._outside(work)

    async def renew(self, lease: Lease, seconds: float) -> bool:
        def work(connection: sa.Connection) -> Sequence[Entry]:
            until = self._now(connection) + seconds
            connection.execute(sa.update(servers).where(*_is(lease)).values(lease_time=until))
            return ()

        try:
            await self._writer.submit(Change(work=work))
        except Fenced:
            return False
        except Unkept as error:
            raise unavailable(error) from error
        return True

    async def is_held(self, server_id: str) -> bool:
        try:
            async with self._database.reading() as connection:
                query = sa.select(sa.exists().where(servers.c.server_id == server_id))
                return bool(await connection.scalar(query))
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error

    async def expired(self, own: Lease) -> Sequence[Lease]:
        try:
            async with self._database.reading() as connection:
                now = await connection.run_sync(self._now)
                query = sa.select(servers.c.server_id, servers.c.epoch).where(
                    servers.c.lease_time < now, servers.c.server_id != own.server_id
                )
                return [Lease(row[0], row[1]) for row in await connection.execute(query)]
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error

    async def end(self, dead: Lease) -> bool:
        counts: list[int] = []

        def work(connection: sa.Connection) -> Sequence[Entry]:
            late = servers.c.lease_time < self._now(connection)
            # Locked: it is writing now, or froze while it did. Others' records in this group must not wait for that.
            free = sa.select(servers.c.epoch).where(*_is(dead), late).with_for_update(skip_locked=True)
            counts.append(len(connection.execute(free).all()))
            if counts[-1]:
                connection.execute(sa.delete(servers).where(*_is(dead)))
            return ()

        try:
            await self._writer.submit(Change(work=work))
        except Fenced:
            return False
        except Unkept as error:
            raise unavailable(error) from error
        return counts[-1] > 0

    async def release(self, lease: Lease) -> None:
        def work(connection: sa.Connection) -> None:
            connection.execute(sa.delete(servers).where(*_is(lease)))

        await self._outside(work)

    @property
    def _alone(self) -> bool:
        # Whoever has the file to itself (see ownership.py) knows that all others are dead.
        return self._database.options.is_sqlite and self._database.options.owned

    def _now(self, connection: sa.Connection) -> Any:
        if self._database.options.is_sqlite:
            return self._clock()
        return connection.scalar(sa.select(_POSTGRES_NOW))

    async def _outside(self, work: Callable[[sa.Connection], None]) -> None:
        """One transaction beside the writer's. Raises STORE_UNAVAILABLE."""
        try:
            if self._database.options.is_sqlite:
                await asyncio.to_thread(self._in_file, work)
            else:
                async with self._database.reading() as connection:
                    await connection.run_sync(_transact, "BEGIN", work)
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error

    def _in_file(self, work: Callable[[sa.Connection], None]) -> None:
        engine = sqlite_engine(self._database.options)
        try:
            with engine.connect() as connection:
                _transact(connection, "BEGIN IMMEDIATE", work)
        finally:
            engine.dispose()


def _transact(connection: sa.Connection, begin: str, work: Callable[[sa.Connection], None]) -> None:
    connection.exec_driver_sql(begin)
    try:
        work(connection)
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


def _is(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return servers.c.server_id == lease.server_id, servers.c.epoch == lease.epoch
