"""Several servers on one store, for the contracts of leases and of what is decided about the dead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from tests.unit.execution.corridor import row
from toolwright_server.catalog.model import Effect
from toolwright_server.execution.model import Execution
from toolwright_server.execution.recovery.leases import Lease, LeaseStore
from toolwright_server.execution.recovery.verdict import VerdictStore, entry
from toolwright_server.records.audit.model import Entry, Head
from toolwright_server.stores.memory.leases import MemoryLeases
from toolwright_server.stores.memory.recovery import MemoryRecovery
from toolwright_server.stores.sql.change import AuditRow, Change
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.leases import SqlLeases
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.recovery import SqlRecovery
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import request_ids, servers
from toolwright_server.stores.sql.writer import Writer

LEASE_SECONDS = 15.0


@dataclass
class Server:
    """What one server has of the store."""

    own: Lease
    leases: LeaseStore
    verdicts: VerdictStore
    # Keeps an execution that this server runs; raises when the server has lost its lease.
    add: Callable[[Execution], Any]


class Servers(Protocol):
    """One store. `audited` are the entries of the audit trail so far, in the order in which they were kept."""

    audited: list[Entry]

    async def server(self, name: str, epoch: int = 1) -> Server:
        """One more server, not yet registered."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let the clock by which leases are measured go on."""
        ...

    async def is_claimed(self, execution: Execution) -> bool:
        """Whether the execution holds its request id."""
        ...

    async def close(self) -> None: ...


class MemoryServers:
    def __init__(self) -> None:
        self.audited: list[Entry] = []
        self._now = 1_000.0
        self._rows: dict[str, Execution] = {}
        self._claimed: set[str] = set()
        self._leases = MemoryLeases(lambda: self._now)

    async def server(self, name: str, epoch: int = 1) -> Server:
        def decided(verdict: Any) -> None:
            self.audited.append(entry(verdict))
            if verdict.frees:
                self._claimed.discard(verdict.execution.execution_id)

        async def add(execution: Execution) -> None:
            self._rows[execution.execution_id] = execution
            if execution.request_id:
                self._claimed.add(execution.execution_id)

        return Server(Lease(name, epoch), self._leases, MemoryRecovery(self._rows, self._leases, decided), add)

    async def pass_time(self, seconds: float) -> None:
        self._now += seconds

    async def is_claimed(self, execution: Execution) -> bool:
        return execution.execution_id in self._claimed

    async def close(self) -> None: ...


class _Trail:
    """A Linker that links nothing and says what was kept."""

    def __init__(self, audited: list[Entry]) -> None:
        self._audited = audited
        self._linked: list[Entry] = []

    def link(self, entries: Sequence[Entry]) -> Sequence[AuditRow]:
        self._linked += entries
        return [
            (each.execution_id, number, 0.0, each.tenant, str(each.kind), "", "", each.execution_id, b"", b"", b"")
            for number, each in enumerate(self._linked[-len(entries) :], len(self._audited) + len(self._linked))
        ]

    def keep(self) -> None:
        self._audited += self._linked
        self._linked = []

    def drop(self) -> None:
        self._linked = []

    def doubt(self) -> None:
        raise AssertionError("no commit breaks off here")

    def doubts(self) -> Sequence[Head]:
        return ()

    def resolve(self, found: Head) -> None:
        raise AssertionError(f"nobody was in doubt about {found}")


class SqlServers:
    """`alone`: as a SQLite file that one server has to itself."""

    def __init__(self, url: str, folder: Path, *, alone: bool = False) -> None:
        self.audited: list[Entry] = []
        self._options = DatabaseOptions(locate(url, folder), timeout_seconds=10.0, synchronous="off", owned=alone)
        self._now = 1_000.0
        self._database: Database | None = None
        self._writers: list[Writer] = []

    async def database(self) -> Database:
        if self._database is None:
            self._database = await Database.open(self._options)
        return self._database

    async def server(self, name: str, epoch: int = 1) -> Server:
        database = await self.database()
        sink = SqliteSink if self._options.is_sqlite else PostgresSink
        writer = Writer(sink(self._options, lease=(name, epoch), linker=_Trail(self.audited)))
        await writer.open()
        self._writers.append(writer)

        async def add(execution: Execution) -> None:
            await writer.submit(Change(execution, claims=bool(execution.request_id)))

        leases = SqlLeases(database, writer, clock=lambda: self._now)
        return Server(Lease(name, epoch), leases, SqlRecovery(database, writer), add)

    async def pass_time(self, seconds: float) -> None:
        self._now += seconds
        if not self._options.is_sqlite:
            # Its clock cannot be moved, so the leases are.
            async with (await self.database()).reading() as connection:
                await connection.execute(sa.update(servers).values(lease_time=servers.c.lease_time - seconds))

    async def is_claimed(self, execution: Execution) -> bool:
        async with (await self.database()).reading() as connection:
            query = sa.select(request_ids.c.expire_time).where(request_ids.c.execution_id == execution.execution_id)
            return bool(await connection.scalar(query))

    async def close(self) -> None:
        for writer in self._writers:
            await writer.close()
        if self._database is not None:
            await self._database.close()


def left_behind(server: Server, execution_id: str, effect: Effect = Effect.SIDE_EFFECT, **facts: Any) -> Execution:
    """An execution that this server has just accepted."""
    return row(
        execution_id=execution_id,
        server_id=server.own.server_id,
        epoch=server.own.epoch,
        effect=effect,
        **facts,
    )
