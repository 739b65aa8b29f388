"""The audit trail on SQLite or PostgreSQL. Entries are written by the writer, see change.py; the rest is done here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.conditions import All, Comparison, Condition, Either, Not, Relation
from toolwright_server.records.audit.model import Checkpoint, Entry, Head, Row, Span
from toolwright_server.records.audit.store import AuditQuery
from toolwright_server.stores.sql.change import Change, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import audit_checkpoints, audit_entries, servers
from toolwright_server.stores.sql.writer import Writer

_E: Final = audit_entries.c
_K: Final = audit_checkpoints.c
# Rows that go in one commit: calls wait for no more than that.
_BATCH: Final = 1_000
_ORDERS: Final = {
    Relation.BEFORE: "<",
    Relation.NOT_AFTER: "<=",
    Relation.AFTER: ">",
    Relation.NOT_BEFORE: ">=",
}
# The same words on both databases. One that is there already is the same one: nobody else writes to this chain.
_KEEP: Final = sa.text(
    "INSERT INTO audit_checkpoints (chain_id, sequence, time, hash, signature, body) "
    "VALUES (:chain_id, :sequence, :time, :hash, :signature, :body) ON CONFLICT DO NOTHING"
)


class SqlAuditStore:
    """An AuditStore."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def list(self, query: AuditQuery) -> Sequence[Row]:
        asked = [_E.tenant == query.tenant, _where(query.condition)]
        if query.users is not None:
            asked.append(_E.user_id.in_(sorted(query.users)))
        if query.before is not None:
            asked.append(_behind(*query.before))
        order = _E.time.desc(), _E.chain_id.desc(), _E.sequence.desc()
        found = await self._read(sa.select(audit_entries).where(*asked).order_by(*order).limit(query.limit))
        return [Row(*row) for row in found]

    async def spans(self, tenant: str | None) -> Sequence[Span]:
        found: list[Span] = []
        ends = sa.select(_E.chain_id, _E.sequence, _E.tenant, _E.hash).limit(1)
        chain = ""
        # From chain to chain by the primary key: a GROUP BY would read every entry.
        while rows := await self._read(ends.where(_E.chain_id > chain).order_by(_E.chain_id, _E.sequence)):
            chain, first, of, _ = rows[0]
            if tenant in {None, of}:
                ((_, last, _, digest),) = await self._read(
                    ends.where(_E.chain_id == chain).order_by(_E.sequence.desc())
                )
                found.append(Span(chain, of, first, Head(chain, last, digest)))
        return found

    async def entries(self, chain_id: str, after: int, until: int, limit: int) -> Sequence[Row]:
        query = (
            sa.select(audit_entries)
            .where(_E.chain_id == chain_id, _E.sequence > after, _E.sequence <= until)
            .order_by(_E.sequence)
            .limit(limit)
        )
        return [Row(*row) for row in await self._read(query)]

    async def checkpoints(self, after: tuple[str, int], limit: int) -> Sequence[Checkpoint]:
        chain, sequence = after
        query = (
            sa.select(audit_checkpoints)
            .where(_K.chain_id >= chain, sa.or_(_K.chain_id > chain, _K.sequence > sequence))
            .order_by(_K.chain_id, _K.sequence)
            .limit(limit)
        )
        return [Checkpoint(*row) for row in await self._read(query)]

    async def tips(self, limit: int) -> Sequence[Checkpoint]:
        found: list[Checkpoint] = []
        # The last one of each chain, from the last chain down.
        newest = sa.select(audit_checkpoints).order_by(_K.chain_id.desc(), _K.sequence.desc()).limit(1)
        rows = await self._read(newest)
        while rows:
            found.append(Checkpoint(*rows[0]))
            rows = await self._read(newest.where(_K.chain_id < found[-1].chain_id))
        return sorted(found, key=lambda tip: tip.time, reverse=True)[:limit]

    async def keep(self, checkpoint: Checkpoint) -> None:
        await self._write(Change(statements=((_KEEP, checkpoint._asdict()),)))

    async def prune(self, entries: Sequence[Head], checkpoints: Sequence[Head], evidence: Sequence[Entry]) -> None:
        for head in entries:
            await self._erase(audit_entries, head)
        for head in checkpoints:
            await self._erase(audit_checkpoints, head)
        if evidence:
            await self._write(Change(entries=evidence))

    async def alive(self) -> Sequence[tuple[str, int]]:
        found = await self._read(sa.select(servers.c.server_id, servers.c.epoch))
        return [(server_id, epoch) for server_id, epoch in found]

    async def _erase(self, table: sa.Table, end: Head) -> None:
        chain, sequence = table.c.chain_id, table.c.sequence
        ((first,),) = await self._read(sa.select(sa.func.min(sequence)).where(chain == end.chain_id))
        if first is None:
            return
        gone = sa.delete(table).where(chain == end.chain_id, sequence <= sa.bindparam("until"))
        for start in range(first, end.sequence + 1, _BATCH):
            until: Mapping[str, Any] = {"until": min(start + _BATCH - 1, end.sequence)}
            await self._write(Change(statements=((gone, until),)))

    async def _write(self, change: Change) -> None:
        try:
            await self._writer.submit(change)
        except Unkept as error:
            raise unavailable(error) from error

    async def _read(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[Any]:
        try:
            async with self._database.reading() as connection:
                return (await connection.execute(query)).all()
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error


def _behind(time: float, chain: str, sequence: int) -> sa.ColumnElement[bool]:
    """What comes after this entry when the newest stand first; with the time alone as a bound for the index."""
    same = sa.or_(_E.chain_id < chain, sa.and_(_E.chain_id == chain, _E.sequence < sequence))
    return sa.and_(_E.time <= time, sa.or_(_E.time < time, same))


def _where(condition: Condition) -> sa.ColumnElement[bool]:
    match condition:
        case Comparison():
            return _compared(condition)
        case Not(part):
            return sa.not_(_where(part))
        case All(parts):
            return sa.and_(sa.true(), *map(_where, parts))
        case Either(parts):
            return sa.or_(sa.false(), *map(_where, parts))


def _compared(asked: Comparison) -> sa.ColumnElement[bool]:
    column: sa.ColumnElement[Any] = _E[asked.field]
    if asked.relation is Relation.EXISTS:
        # No column of an entry is ever null.
        return sa.true()
    if asked.relation is Relation.PREFIX:
        start = str(asked.value)
        return sa.func.substr(column, 1, len(start)) == start
    if asked.relation is Relation.EQUAL:
        return column == asked.value
    found: sa.ColumnElement[bool] = column.op(_ORDERS[asked.relation], is_comparison=True)(asked.value)
    return found
