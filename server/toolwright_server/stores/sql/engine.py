"""Opens the database: where it lies, who owns it, how it is read. Writes go through the writer, see writer.py."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import orjson
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from toolwright_server.errors import SettingsError
from toolwright_server.settings import Settings
from toolwright_server.stores.sql import migrating
from toolwright_server.stores.sql.ownership import Owned, own
from toolwright_server.stores.sql.tables import REVISION

Synchronous = Literal["full", "normal", "off"]

FILE_NAME: Final = "toolwright.sqlite3"
# Claims answer with RETURNING, which came with this release.
_SQLITE_FLOOR: Final = (3, 35, 0)
# What a write-ahead log that grew under a long read is cut down to.
_LOG_BYTES: Final = 64 * 1024**2
# Making and changing tables, and waiting for another server that does: no call waits for it.
_UPGRADE_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """Where the record is kept, and how long anything may wait for it."""

    url: sa.URL
    timeout_seconds: float = 5.0
    # SQLite alone: what a power cut may take. See docs/storage.md.
    synchronous: Synchronous = "full"
    # SQLite alone: memory for pages, of the connection that writes.
    cache_bytes: int = 64 * 1024**2
    # Connections for reading.
    readers: int = 4
    # SQLite alone: refuse a file that another server has open. Off in tests that put several on one file.
    owned: bool = True

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say. Raises SettingsError."""
        return cls(
            locate(settings.database_url.get_secret_value(), settings.data_dir),
            timeout_seconds=settings.storage_timeout_seconds,
            synchronous=settings.sqlite_synchronous,
            cache_bytes=settings.sqlite_cache_bytes,
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file of ours rather than a server of its own."""
        return self.url.get_backend_name() == "sqlite"


def locate(database_url: str, data_dir: Path) -> sa.URL:
    """The URL with the driver that is used. Empty: a SQLite file in the data directory. Raises SettingsError."""
    if not database_url:
        return sa.URL.create("sqlite+aiosqlite", database=str(data_dir / FILE_NAME))
    try:
        url = sa.make_url(database_url)
    except SQLAlchemyError:
        # Not quoted: it may hold a password.
        raise SettingsError("database_url is no URL: write postgresql://user:password@host/database") from None
    if url.drivername in {"postgresql", "postgres", "postgresql+asyncpg"}:
        return url.set(drivername="postgresql+asyncpg")
    if url.drivername in {"sqlite", "sqlite+aiosqlite"} and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite+aiosqlite")
    raise SettingsError(
        f"database_url = {url.render_as_string()!r}: use postgresql://..., sqlite:///file, or leave it empty for "
        f"{FILE_NAME} in the data directory"
    )


class Database:
    """One server's way to the database. `engine` is for reading; on SQLite it cannot write."""

    def __init__(self, options: DatabaseOptions, engine: AsyncEngine, owned: Owned | None) -> None:
        self.options = options
        self.engine = engine
        self._owned = owned

    @classmethod
    async def open(cls, options: DatabaseOptions) -> Self:
        """Make what is missing, bring the tables up to date, take the file. Raises SettingsError."""
        owned = None
        if options.is_sqlite:
            owned = await asyncio.to_thread(_prepare_file, options)
        else:
            await _prepare_server(options)
        return cls(options, _readers(options), owned)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """A connection that sees what is committed. Raises SQLAlchemyError or OSError."""
        async with self.engine.connect() as connection:
            yield connection

    async def close(self) -> None:
        """Close the connections and give the file back. The writer must be closed before."""
        await self.engine.dispose()
        if self._owned is not None:
            self._owned.close()


def sqlite_engine(options: DatabaseOptions) -> sa.Engine:
    """For the one thread that writes. Transactions are begun by hand, in the mode that is needed."""
    engine = sa.create_engine(
        options.url.set(drivername="sqlite"),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
        json_serializer=as_json,
        # Statements of a group come in a few sizes each.
        connect_args={"timeout": options.timeout_seconds, "check_same_thread": False, "cached_statements": 256},
    )

    def configure(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")
        connection.execute(f"PRAGMA cache_size = -{options.cache_bytes // 1024}")
        # A checkpoint that was held up by a reader must not leave a large log behind for good.
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")

    event.listen(engine, "connect", configure)
    return engine


def postgres_engine(options: DatabaseOptions, size: int, command_seconds: float | None = None) -> AsyncEngine:
    """A pool of so many connections; transactions are begun by hand. A command takes as long as anything may wait for
    the database, and so does what comes between two of a transaction, unless more is given.
    """
    seconds = command_seconds or options.timeout_seconds
    return create_async_engine(
        options.url,
        isolation_level="AUTOCOMMIT",
        pool_size=size,
        max_overflow=0,
        pool_timeout=options.timeout_seconds,
        # A connection that died while it lay in the pool is replaced in silence, once the server is back.
        pool_pre_ping=True,
        json_serializer=as_json,
        json_deserializer=orjson.loads,
        connect_args={
            "timeout": options.timeout_seconds,
            "command_timeout": seconds,
            "server_settings": {
                "application_name": "toolwright",
                # A server that froze or fell off the network in the middle of a transaction holds its own lease's
                # row, and nobody could take the lease over.
                "idle_in_transaction_session_timeout": str(round(seconds * 1000)),
            },
        },
    )


def as_json(value: Any) -> str:
    """JSON text, for columns that hold it."""
    return orjson.dumps(value).decode()


def _readers(options: DatabaseOptions) -> AsyncEngine:
    if not options.is_sqlite:
        return postgres_engine(options, options.readers)
    engine = create_async_engine(
        options.url,
        isolation_level="AUTOCOMMIT",
        pool_size=options.readers,
        max_overflow=0,
        pool_timeout=options.timeout_seconds,
        json_deserializer=orjson.loads,
        connect_args={"timeout": options.timeout_seconds},
    )

    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    event.listen(engine.sync_engine, "connect", configure)
    return engine


def _prepare_file(options: DatabaseOptions) -> Owned | None:
    assert options.url.database is not None
    path = Path(options.url.database)
    owned = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Payloads of all users lie in it: nobody else on the machine reads them.
        path.touch(mode=0o600)
        if options.owned:
            owned = own(path)
        _upgrade_file(options)
    except (OSError, SQLAlchemyError) as error:
        if owned is not None:
            owned.close()
        raise SettingsError(f"the database {path} cannot be opened: {_cause(error)}") from error
    except BaseException:
        if owned is not None:
            owned.close()
        raise
    return owned


def _upgrade_file(options: DatabaseOptions) -> None:
    engine = sqlite_engine(options)
    try:
        with engine.connect() as connection:
            found = engine.dialect.server_version_info
            if found is not None and found < _SQLITE_FLOOR:
                raise SettingsError(
                    f"Python's SQLite is {'.'.join(map(str, found))}, at least 3.35 is needed: use a newer Python, "
                    "or set database_url to a PostgreSQL"
                )
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            # Others that start at the same moment wait here, and find everything done.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            migrating.upgrade(connection)
            connection.exec_driver_sql("COMMIT")
    finally:
        engine.dispose()


async def _prepare_server(options: DatabaseOptions) -> None:
    engine = postgres_engine(options, 1, _UPGRADE_SECONDS)
    try:
        async with engine.connect() as connection:
            if await connection.run_sync(migrating.current) != REVISION:
                await asyncio.to_thread(migrating.load)
            await connection.exec_driver_sql("BEGIN")
            # The lock lasts until the transaction ends, however it ends.
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({migrating.LOCK})")
            await connection.run_sync(migrating.upgrade)
            await connection.exec_driver_sql("COMMIT")
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        where = options.url.render_as_string()
        raise SettingsError(f"the database {where} cannot be opened: {_cause(error)}") from error
    finally:
        await engine.dispose()


def _cause(error: Exception) -> str:
    """What the driver said, without SQLAlchemy's words around it."""
    return str(getattr(error, "orig", None) or error) or type(error).__name__
