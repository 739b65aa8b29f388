"""Opens the toolkit's SQLite file, one engine for each process, and makes its tables once, whoever comes first."""

import contextlib
import os
import sqlite3
from collections.abc import Generator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from toolwright_server.toolkits.crm import tables
from toolwright_server.toolkits.crm.failures import store_busy
from toolwright_server.toolkits.crm.kit import toolkit
from toolwright_server.toolkits.crm.text import as_json
from toolwright_server.toolkits.exclusive import exclusive

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

# By process and file: an engine must not be carried through a fork, nor to another data directory.
_engines: dict[tuple[int, Path], sa.Engine] = {}


@contextlib.contextmanager
def reading() -> Generator[sa.Connection]:
    """A transaction that sees one state of the data and writes nothing."""
    with _transaction("BEGIN") as connection:
        yield connection


@contextlib.contextmanager
def writing() -> Generator[sa.Connection]:
    """A transaction that nobody else can come between; committed when the block ends well."""
    with _transaction("BEGIN IMMEDIATE") as connection:
        yield connection


@contextlib.contextmanager
def _transaction(begin: str) -> Generator[sa.Connection]:
    # Waiting for the lock is done in BEGIN IMMEDIATE: when it fails, nothing has happened yet.
    with _engine().connect() as connection:
        try:
            connection.exec_driver_sql(begin)
        except OperationalError as error:
            if _is_busy(error):
                raise store_busy(toolkit.settings.busy_timeout_seconds) from error
            raise
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


def _is_busy(error: OperationalError) -> bool:
    return isinstance(error.orig, sqlite3.OperationalError) and error.orig.sqlite_errorcode & 0xFF in _BUSY


def _engine() -> sa.Engine:
    path = (toolkit.data_dir / "crm.sqlite3").absolute()
    key = (os.getpid(), path)
    engine = _engines.get(key)
    if engine is None:
        engine = _opened(path)
        _engines[key] = engine
    return engine


def _opened(path: Path) -> sa.Engine:
    busy_seconds = toolkit.settings.busy_timeout_seconds
    # Transactions are begun by hand, in the mode that is needed.
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": busy_seconds},
        json_serializer=as_json,
    )
    event.listen(engine, "connect", _configure)
    # Turning WAL on and making tables do not wait for each other in SQLite: the lock makes workers queue up.
    with exclusive(path.with_suffix(".lock"), busy_seconds) as held:
        if not held:
            raise store_busy(busy_seconds)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            _make_tables(connection, path)
    return engine


def _configure(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    # With WAL this loses nothing when the process dies; a power cut may take the last commits, never consistency.
    connection.execute("PRAGMA synchronous = NORMAL")


def _make_tables(connection: sa.Connection, path: Path) -> None:
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > tables.SCHEMA_VERSION:
        raise RuntimeError(f"{path} was written by a newer release (schema {version}): run that one, or move it away")
    if version < tables.SCHEMA_VERSION:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        tables.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {tables.SCHEMA_VERSION}")
        connection.exec_driver_sql("COMMIT")
