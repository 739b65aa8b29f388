"""A server's lease and its executions in a process of its own, for tests that kill it or let it stand still.

Run as `python -m tests.leaseholder URL NAME`; reads orders from its input, a line each, and answers each with a line:

    begin ID EFFECT    keep a new execution
    settle ID          keep that it succeeded: `kept`, or why not
    freeze ID          begin the same and stand still in the middle of the transaction, until SIGCONT; then as `settle`
    lost               wait until the lease is lost
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from tests.unit.execution.corridor import row
from toolwright_server.catalog.model import Effect
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.recovery.leases import Lease, LeaseKeeper
from toolwright_server.execution.recovery.takeover import Recovery
from toolwright_server.stores.sql.change import Change, Entry, Unkept
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.leases import SqlLeases
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.recovery import SqlRecovery
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.writer import Writer, WriterOptions

LEASE_SECONDS = 1.0
# How long PostgreSQL lets a transaction stand still, and a change may wait: longer than a lease.
STORE_SECONDS = 2.0


class Holder:
    """One server: its database, its writer, its lease. The tests' own process has one as well."""

    def __init__(self, url: str, name: str) -> None:
        self.options = DatabaseOptions(locate(url, Path()), timeout_seconds=STORE_SECONDS, synchronous="off")
        self.own = Lease(name, time.time_ns())
        self.lost = asyncio.Event()

    async def start(self) -> None:
        """Open everything, take the lease, settle what the dead left behind."""
        self.database = await Database.open(self.options)
        sink = SqliteSink if self.options.is_sqlite else PostgresSink
        self.writer = Writer(
            sink(self.options, lease=(self.own.server_id, self.own.epoch)),
            WriterOptions(timeout_seconds=STORE_SECONDS),
        )
        await self.writer.open()
        self.verdicts = SqlRecovery(self.database, self.writer, audited=False)
        self.recovery = Recovery(self.verdicts, self.own)
        self.keeper = LeaseKeeper(
            SqlLeases(self.database, self.writer),
            self.own,
            LEASE_SECONDS,
            recover=lambda anew: self.recovery.run(anew=anew),
            lost=self.lost.set,
        )
        await self.keeper.start()

    async def close(self) -> None:
        """Give everything back."""
        await self.keeper.close()
        await self.writer.close()
        await self.database.close()

    def execution(self, execution_id: str, effect: Effect, state: State = State.QUEUED) -> Execution:
        """A row of this server."""
        return row(
            execution_id=execution_id,
            server_id=self.own.server_id,
            epoch=self.own.epoch,
            effect=effect,
            state=state,
            result=b"1" if state is State.SUCCEEDED else None,
        )

    async def kept(self, change: Change) -> str:
        """Have a change kept: `kept`, or the name of what went wrong."""
        try:
            await self.writer.submit(change)
        except Unkept as error:
            return type(error).__name__
        return "kept"


def _stand_still(_: sa.Connection) -> Sequence[Entry]:
    os.kill(os.getpid(), signal.SIGSTOP)
    return ()


async def _obey(holder: Holder, order: str, *facts: str) -> str:
    if order == "begin":
        return await holder.kept(Change(holder.execution(facts[0], Effect[facts[1]])))
    if order in {"settle", "freeze"}:
        done = holder.execution(facts[0], Effect.SIDE_EFFECT, State.SUCCEEDED)
        return await holder.kept(Change(done, work=_stand_still if order == "freeze" else None))
    assert order == "lost", order
    await holder.lost.wait()
    return "lost"


async def _serve(url: str, name: str) -> None:
    holder = Holder(url, name)
    await holder.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.write(await _obey(holder, *line.split()) + "\n")
        sys.stdout.flush()
    await holder.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2]))
