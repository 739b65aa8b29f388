"""Counts side effects in a process of its own with a file of its own, which no kill of a server reaches.

At each effect it looks into the database itself, with a connection of its own: was the intent committed by then? A
question about an execution (what a look-up function asks) also rules it out from then on, if it was not done yet: what
a killed server sent may still be on its way. An attempt (`try`) is written down in a file of its own, and may be
refused before anything happens.

Run as `python -m tests.counter SOCKET FILE DATABASE`; prints a line when it listens. DATABASE is the path of a SQLite
file, the URL of a PostgreSQL, or empty: then nothing is looked up.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INTENT = "SELECT state FROM executions WHERE execution_id = "

Intended = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Effect:
    """One side effect. `intended`: whether the record held the execution at that moment; None when nobody looked."""

    number: int
    execution_id: str
    key: str
    intended: bool | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that came here. `done`: it was not refused; `acted`: and had a side effect; `intended` as above."""

    execution_id: str
    key: str
    done: bool
    acted: bool
    intended: bool | None


class Counter:
    """Started by `running_counter`: where its socket and its file are."""

    def __init__(self, socket: Path, file: Path) -> None:
        self.socket = socket
        self.file = file

    def effects(self) -> list[Effect]:
        """All side effects so far, in their order."""
        return [Effect(**json.loads(line)) for line in self.file.read_text().splitlines()]

    def attempts(self) -> list[Attempt]:
        """All attempts so far, in their order."""
        return [Attempt(**json.loads(line)) for line in _beside(self.file).read_text().splitlines()]


def _beside(file: Path) -> Path:
    """Where attempts are written down."""
    return file.with_name("attempts.jsonl")


@contextlib.contextmanager
def running_counter(folder: Path, database: str = "") -> Generator[Counter]:
    """The process, until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    counter = Counter(folder / "counter.sock", folder / "effects.jsonl")
    command = [sys.executable, "-m", "tests.counter", str(counter.socket), str(counter.file), database]
    with (folder / "counter.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    with process.stdout:
        if not process.stdout.readline():
            process.wait(10)
            raise AssertionError(f"the counter did not start:\n{(folder / 'counter.log').read_text()}")
        try:
            yield counter
        finally:
            ended = process.poll()
            process.terminate()
            process.wait(10)
            assert ended is None, f"the counter broke:\n{(folder / 'counter.log').read_text()}"


class _Ledger:
    """The file, and what it says."""

    def __init__(self, file: Path, intended: Intended | None) -> None:
        self._file, self._attempts = (
            os.open(each, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for each in (file, _beside(file))
        )
        self._intended = intended
        self._numbers: dict[str, int] = {}
        self._tried: dict[str, int] = {}
        self._ruled_out: set[str] = set()
        self._count = 0

    async def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Does what is asked: `act` counts a side effect, `look` says whether it happened, `try` attempts one."""
        execution_id = asked["execution_id"]
        if asked["what"] == "look":
            number = self._numbers.get(execution_id)
            if number is None:
                self._ruled_out.add(execution_id)
            return {"number": number}
        intended = None if self._intended is None else await self._intended(execution_id)
        if execution_id in self._ruled_out:
            return {"ruled_out": True}
        if asked["what"] == "try" and not self._goes_on(asked, intended):
            return {"refused": True}
        if not asked.get("acts", True):
            return {"number": self._tried[execution_id]}
        self._count += 1
        # The first one counts for who looks; a second line of the same id is what the tests must find.
        self._numbers.setdefault(execution_id, self._count)
        effect = {"number": self._count, "execution_id": execution_id, "key": asked["key"], "intended": intended}
        os.write(self._file, json.dumps(effect).encode() + b"\n")
        return {"number": self._count}

    def _goes_on(self, asked: dict[str, Any], intended: bool | None) -> bool:
        """Writes an attempt down; the first `refused` ones of an execution go no further."""
        execution_id = asked["execution_id"]
        tried = self._tried[execution_id] = self._tried.get(execution_id, 0) + 1
        done = tried > asked["refused"]
        attempt = Attempt(execution_id, asked["key"], done, done and asked["acts"], intended)
        os.write(self._attempts, json.dumps(asdict(attempt)).encode() + b"\n")
        return done


def _in_sqlite(path: str) -> Intended:
    connection: sqlite3.Connection | None = None

    async def intended(execution_id: str) -> bool:
        nonlocal connection
        if connection is None:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5, isolation_level=None)
        return connection.execute(INTENT + "?", (execution_id,)).fetchone() is not None

    return intended


def _in_postgres(url: str) -> Intended:
    asyncpg: Any = importlib.import_module("asyncpg")
    pool: Any = None
    once = asyncio.Lock()

    async def intended(execution_id: str) -> bool:
        nonlocal pool
        async with once:
            pool = pool or await asyncpg.create_pool(url, min_size=1, max_size=4)
        return await pool.fetchval(INTENT + "$1", execution_id) is not None

    return intended


def _lookup(database: str) -> Intended | None:
    if not database:
        return None
    return _in_postgres(database) if "://" in database else _in_sqlite(database)


async def _serve(socket: Path, file: Path, database: str) -> None:
    ledger = _Ledger(file, _lookup(database))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            # A killed server may leave half a line.
            while (line := await reader.readline()).endswith(b"\n"):
                writer.write(json.dumps(await ledger.answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, socket, backlog=1024)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    sys.stdout.write(f"{time.time()}\n")
    sys.stdout.flush()
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
