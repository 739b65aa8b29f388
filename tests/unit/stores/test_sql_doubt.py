"""Commits of which nobody hears whether they came through: the audit trail goes on from what is there."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
import sqlalchemy as sa

from tests.databases import Postgres
from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.model import Entry, Kind, Row
from toolwright_server.records.audit.offline import lines
from toolwright_server.stores.sql.change import Change, Unkept
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.tables import audit_entries

from .written import writing

pytestmark = pytest.mark.asyncio


def entry(name: str) -> Entry:
    return Entry(Kind.CALL, "acme", "key-1", "ann", 1.0, name)


class Line:
    """A way to PostgreSQL that may be cut at the next COMMIT."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cut: Callable[[], bool] = lambda: False
        self._came_through = False
        connection: Any = cast("Any", asyncpg).Connection
        execute = connection.execute

        async def cutting(this: Any, query: str, *arguments: Any, **options: Any) -> Any:
            if query != "COMMIT" or not self.cut():
                return await execute(this, query, *arguments, **options)
            self.cut = lambda: False
            if self._came_through:
                await execute(this, query, *arguments, **options)
            this.terminate()
            raise ConnectionResetError("the line was cut")

        monkeypatch.setattr(connection, "execute", cutting)

    def cut_next(self, *, came_through: bool) -> None:
        self._came_through = came_through
        self.cut = lambda: True


async def trail(database: Database) -> list[Row]:
    query = sa.select(audit_entries).order_by(audit_entries.c.sequence)
    async with database.reading() as connection:
        return [Row(*row) for row in (await connection.execute(query)).all()]


@pytest.mark.parametrize("came_through", [True, False])
async def test_the_chain_goes_on_from_what_is_in_the_database(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, came_through: bool
) -> None:
    url = locate(await asyncio.to_thread(postgres.make_database), tmp_path)
    database = await Database.open(DatabaseOptions(url, timeout_seconds=10.0))
    line = Line(monkeypatch)
    async with writing(database, linker=Chains("server-1", 1)) as writer:
        await writer.submit(Change(entries=[entry("first")]))
        line.cut_next(came_through=came_through)
        with pytest.raises(Unkept) as failed:
            await writer.submit(Change(entries=[entry("doubtful")]))
        assert failed.value.in_doubt
        await writer.submit(Change(entries=[entry("last")]))
    rows = await trail(database)
    await database.close()
    names = ["", "first", *(["doubtful"] if came_through else []), "last"]
    assert [row.execution_id for row in rows] == names
    for before, row in itertools.pairwise(rows):
        assert lines.entry(encoding.entry_line(row)).previous == before.hash
