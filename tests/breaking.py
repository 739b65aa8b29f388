"""Ways in which a server's database fails while it runs, and ends to fail. Each is a real one; none is simulated."""

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from tests.databases import Postgres
from tests.live import LiveServer

DISK_BYTES = 32 * 1024 * 1024


class Fault(Protocol):
    """What may happen to a database."""

    def begin(self, server: LiveServer) -> None:
        """From here on it does not work."""
        ...

    def end(self, server: LiveServer) -> None:
        """From here on it works again."""
        ...


@contextlib.contextmanager
def small_disk() -> Generator[Path]:
    """A file system of 32 MiB. Skips, with the reason, where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="tw-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        folder.rmdir()
        pytest.skip("a full disk needs `mount`, which this machine does not have")
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a full disk needs a tmpfs, which only root may mount: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a server that a failed test left behind may still have files open.
        subprocess.run(["umount", "-l", str(folder)], timeout=10, check=True)
        folder.rmdir()


@dataclass
class FullDisk:
    """Not a byte is left on the file system of `folder`."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def begin(self, server: LiveServer) -> None:
        del server
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 65_536):
                pass

    def end(self, server: LiveServer) -> None:
        del server
        self._filler.unlink()


class FilesMayNotGrow:
    """The server's own limit on the length of files, which also holds where a disk cannot be filled."""

    def begin(self, server: LiveServer) -> None:
        hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, hard))

    def end(self, server: LiveServer) -> None:
        hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))


@dataclass
class LockedFile:
    """Somebody else writes to the SQLite file, and does not come to an end."""

    file: Path
    _connection: sqlite3.Connection | None = None

    def begin(self, server: LiveServer) -> None:
        del server
        self._connection = sqlite3.connect(self.file, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.execute("BEGIN IMMEDIATE")

    def end(self, server: LiveServer) -> None:
        del server
        assert self._connection is not None
        self._connection.close()


@dataclass
class StoppedPostgres:
    """PostgreSQL is gone: told to end (SIGINT), or broken off (SIGQUIT)."""

    postgres: Postgres
    how: signal.Signals

    def begin(self, server: LiveServer) -> None:
        del server
        self.postgres.stop(self.how)

    def end(self, server: LiveServer) -> None:
        del server
        self.postgres.start()


@dataclass
class FrozenPostgres:
    """PostgreSQL is there and answers nothing."""

    postgres: Postgres

    def begin(self, server: LiveServer) -> None:
        del server
        self._tell(signal.SIGSTOP)

    def end(self, server: LiveServer) -> None:
        del server
        self._tell(signal.SIGCONT)

    def _tell(self, what: signal.Signals) -> None:
        assert self.postgres.process is not None
        leader = psutil.Process(self.postgres.process.pid)
        # First the one that would start others.
        for process in (leader, *leader.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, what)


@dataclass
class ReadOnlyPostgres:
    """PostgreSQL answers and writes nothing, as a stand-by does after somebody else took over."""

    postgres: Postgres

    def begin(self, server: LiveServer) -> None:
        del server
        self._set("on")

    def end(self, server: LiveServer) -> None:
        del server
        self._set("off")

    def _set(self, value: str) -> None:
        self.postgres.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        self.postgres.execute("SELECT pg_reload_conf()")
