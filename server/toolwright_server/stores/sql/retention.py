"""Erases old executions, or only their payloads. What goes is looked for by a reader; the writer's lock is held for the
erasing alone. Each commit leaves an entry in the audit trail of every tenant that lost something.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.records.audit.model import Entry, Kind
from toolwright_server.stores.sql.change import Change, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.queries import id_at
from toolwright_server.stores.sql.tables import executions, ledger_holds, request_ids, task_costs
from toolwright_server.stores.sql.writer import DAY_SECONDS, Writer

_C: Final = executions.c
_R: Final = request_ids.c
# A digest is kept as long as the payload that it is made of: from the one the other might be guessed.
_HAS_PAYLOAD: Final = sa.or_(
    _C.digest != b"",
    _C.arguments.is_not(None),
    _C.result.is_not(None),
    _C.salt.is_not(None),
    _C.artifacts.is_not(None),
    _C.admin_message.is_not(None),
)
# What is held for an unknown outcome stays visible until somebody settles it.
_NOT_HELD: Final = ~sa.exists().where(ledger_holds.c.execution_id == _C.execution_id)
_TASK: Final = sa.tuple_(task_costs.c.tenant, task_costs.c.user_id, task_costs.c.task_id)
_NO_PAYLOAD: Final[Mapping[str, Any]] = {
    "digest": b"",
    "arguments": None,
    "result": None,
    "salt": None,
    "artifacts": None,
    "admin_message": None,
}

_Row = sa.Row[*tuple[Any, ...]]


class SqlRetention:
    """The `Erase` functions of executions and of payloads. Both raise STORE_UNAVAILABLE."""

    def __init__(self, database: Database, writer: Writer, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        # Below this id no payload is left, but for executions that ran so long that they end later.
        self._bare = ""

    async def executions(self, before: float, limit: int) -> int:
        """Erase whole executions that ended before `before`, and the claims of their request ids."""
        ids = await self._old(before, limit, _NOT_HELD)

        def erase(connection: sa.Connection) -> Sequence[_Row]:
            found = _locked(connection, _C.execution_id.in_(ids))
            gone = [row.execution_id for row in found]
            connection.execute(sa.delete(executions).where(_C.execution_id.in_(gone)))
            connection.execute(sa.delete(request_ids).where(*_claimed(found)))
            connection.execute(sa.delete(task_costs).where(_TASK.in_(_old_tasks(before, limit))))
            return found

        return await self._erased("executions", before, ids, erase)

    async def payloads(self, before: float, limit: int) -> int:
        """Erase arguments, results and what was made of them, of executions that ended before `before`."""
        ids = await self._old(before, limit, _HAS_PAYLOAD, _C.execution_id >= self._bare)

        def erase(connection: sa.Connection) -> Sequence[_Row]:
            found = _locked(connection, _C.execution_id.in_(ids), _HAS_PAYLOAD)
            bare = [row.execution_id for row in found]
            connection.execute(sa.update(executions).where(_C.execution_id.in_(bare)).values(**_NO_PAYLOAD))
            connection.execute(sa.update(request_ids).where(*_claimed(found)).values(digest=b""))
            return found

        count = await self._erased("payloads", before, ids, erase)
        if len(ids) < limit:
            self._bare = max(self._bare, id_at(before - DAY_SECONDS))
        return count

    async def _old(self, before: float, limit: int, *more: sa.ColumnElement[bool]) -> list[str]:
        query = (
            sa.select(_C.execution_id)
            # What ended by then was created by then: ids begin with that time.
            .where(_C.execution_id < id_at(before + DAY_SECONDS), _C.end_time < before, *more)
            .order_by(_C.execution_id)
            .limit(limit)
        )
        try:
            async with self._database.reading() as connection:
                return list(await connection.scalars(query))
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error

    async def _erased(
        self, what: str, before: float, ids: Sequence[str], erase: Callable[[sa.Connection], Sequence[_Row]]
    ) -> int:
        if not ids:
            return 0
        gone: list[_Row] = []

        def work(connection: sa.Connection) -> Sequence[Entry]:
            gone[:] = erase(connection)
            return list(_entries(what, before, self._clock(), gone))

        try:
            await self._writer.submit(Change(work=work))
        except Unkept as error:
            raise unavailable(error) from error
        # What another server erased at the same moment counts as well: more may lie behind it. Unless all was its own:
        # then it goes on alone.
        return len(ids) if gone else 0


def _old_tasks(before: float, limit: int) -> sa.Select[*tuple[Any, ...]]:
    """Tasks that nothing was counted for since: their budgets are of no use to anybody any more."""
    cost = task_costs.c
    query = sa.select(cost.tenant, cost.user_id, cost.task_id).where(cost.update_time < before)
    return query.order_by(cost.update_time).limit(limit).with_for_update(skip_locked=True)


def _locked(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> Sequence[_Row]:
    """Those that are there still; several servers may be at it."""
    columns = (_C.execution_id, _C.tenant, _C.request_id, _C.principal)
    query = sa.select(*columns).where(*which).order_by(_C.execution_id).with_for_update(skip_locked=True)
    return connection.execute(query).all()


def _claimed(found: Iterable[_Row]) -> tuple[sa.ColumnElement[bool], ...]:
    """The claims that these executions hold or held last; by the primary key."""
    holders = [row for row in found if row.request_id]
    keys = [(row.tenant, row.request_id, row.principal) for row in holders]
    return (
        sa.tuple_(_R.tenant, _R.request_id, _R.principal).in_(keys),
        _R.execution_id.in_([row.execution_id for row in holders]),
    )


def _entries(what: str, before: float, now: float, gone: Sequence[_Row]) -> Iterable[Entry]:
    for tenant, count in sorted(Counter(row.tenant for row in gone).items()):
        of_tenant = [row.execution_id for row in gone if row.tenant == tenant]
        facts = {"what": what, "before": int(before), "count": count, "first": of_tenant[0], "last": of_tenant[-1]}
        yield Entry(Kind.RETENTION, tenant, "", "", now, facts=facts)
