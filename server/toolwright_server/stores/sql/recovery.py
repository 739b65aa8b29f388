"""Executions that somebody else decides: recovery, reconciliation, and outcomes that come back from the spill file.

Each decision looks at the row and changes it in one transaction of the writer, with its entry in the audit trail.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.charging import settlements
from toolwright_server.execution.leases import Lease
from toolwright_server.execution.model import TERMINAL, Execution, State
from toolwright_server.execution.verdict import Judge, entry
from toolwright_server.records.ledger.model import Move
from toolwright_server.stores.sql import rows
from toolwright_server.stores.sql.change import Change, Entry, Refused, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import UNFINISHED, executions, request_ids, servers
from toolwright_server.stores.sql.writer import Writer

_C: Final = executions.c
_UNFINISHED: Final = sa.text(UNFINISHED)
# Nobody judges by arguments, and those of a batch may be large.
_WITHOUT_ARGUMENTS: Final = tuple(
    sa.literal(None, sa.LargeBinary).label("arguments") if column is _C.arguments else column for column in rows.COLUMNS
)
_NUMBERS: Final = {column.name: number for number, column in enumerate(rows.COLUMNS)}
_DECIDED: Final = ("state", "end_time", "stopped", "body", "result", "salt", "cost_micros")


class SqlRecovery:
    """See the module. Not `audited`: for a server without an audit trail."""

    def __init__(self, database: Database, writer: Writer, *, audited: bool = True) -> None:
        self._database = database
        self._writer = writer
        self._audited = audited

    async def orphaned(self) -> Sequence[Lease]:
        found = await self._read(
            sa.select(_C.server_id, _C.epoch).where(_UNFINISHED, ~_is_leased(_C.server_id, _C.epoch)).distinct()
        )
        return [Lease(row[0], row[1]) for row in found]

    async def settle(self, lease: Lease, judge: Judge, limit: int) -> Sequence[Execution]:
        query = (
            sa.select(*_WITHOUT_ARGUMENTS)
            .where(_UNFINISHED, _C.server_id == lease.server_id, _C.epoch == lease.epoch)
            .where(~_is_leased(lease.server_id, lease.epoch))
            .order_by(_C.execution_id)
            .limit(limit)
            # Those that another survivor is settling at this moment are its own.
            .with_for_update(of=executions, skip_locked=True)
        )
        found: list[Execution] = []

        def work(connection: sa.Connection, moves: list[Move]) -> Sequence[Entry]:
            found[:] = [rows.execution(row) for row in connection.execute(query).all()]
            return [entry for execution in found for entry in self._judged(connection, moves, execution, judge)]

        await self._transact(work)
        return found

    async def decide(self, execution_id: str, judge: Judge) -> Execution | None:
        query = sa.select(*rows.COLUMNS).where(_C.execution_id == execution_id).with_for_update()
        found: list[Execution] = []

        def work(connection: sa.Connection, moves: list[Move]) -> Sequence[Entry]:
            found[:] = [rows.execution(row) for row in connection.execute(query).all()]
            return self._judged(connection, moves, found[0], judge) if found else ()

        await self._transact(work)
        return found[0] if found else None

    async def ended(self, execution_ids: Sequence[str]) -> Sequence[Execution]:
        query = sa.select(*rows.COLUMNS).where(
            _C.execution_id.in_(execution_ids), _C.state.in_([state.value for state in TERMINAL])
        )
        return [rows.execution(row) for row in await self._read(query)]

    async def restore(self, execution: Execution, entries: Sequence[Entry], frees: bool) -> State | None:
        """Keep an outcome that was written down elsewhere, unless the row has one that is known: the state of the row
        as it was found, None when there was none.
        """
        found: list[State | None] = []

        def work(connection: sa.Connection, moves: list[Move]) -> Sequence[Entry]:
            query = sa.select(_C.state).where(_C.execution_id == execution.execution_id).with_for_update()
            number = connection.scalar(query)
            found.append(None if number is None else State(number))
            if number in _KNOWN:
                return ()
            values = dict(zip(_NUMBERS, rows.values(execution), strict=True)) | {"labels": execution.labels or None}
            if number is None:
                connection.execute(sa.insert(executions), values)
            else:
                _update(connection, execution.execution_id, {name: values[name] for name in rows.MUTABLE})
            if frees:
                _free(connection, execution)
            moves += settlements(execution)
            return entries

        await self._transact(work)
        return found[-1]

    def _judged(
        self, connection: sa.Connection, moves: list[Move], execution: Execution, judge: Judge
    ) -> Sequence[Entry]:
        verdict = judge(execution)
        if verdict is None:
            return ()
        moves += settlements(verdict.execution)
        said = (entry(verdict),) if self._audited else ()
        values = rows.values(verdict.execution)
        _update(connection, execution.execution_id, {name: values[_NUMBERS[name]] for name in _DECIDED})
        if verdict.frees:
            _free(connection, execution)
        return said

    async def _transact(self, decide: Callable[[sa.Connection, list[Move]], Sequence[Entry]]) -> None:
        """Have something decided, and the moves of credits made that it orders."""
        moves: list[Move] = []

        def work(connection: sa.Connection) -> Sequence[Entry]:
            moves.clear()
            return decide(connection, moves)

        try:
            await self._writer.submit(Change(work=work, moves=moves))
        except Refused as error:
            raise ToolwrightError(Reason.INTERNAL, f"the database refuses a decision: {error}") from error
        except Unkept as error:
            raise unavailable(error) from error

    async def _read(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        try:
            async with self._database.reading() as connection:
                return (await connection.execute(query)).all()
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error


# Outcomes that what was written down elsewhere does not outweigh.
_KNOWN: Final = frozenset(state.value for state in TERMINAL - {State.OUTCOME_UNKNOWN})


def _is_leased(server_id: Any, epoch: Any) -> sa.ColumnElement[bool]:
    return sa.exists(sa.select(1).where(servers.c.server_id == server_id, servers.c.epoch == epoch))


def _update(connection: sa.Connection, execution_id: str, values: dict[str, Any]) -> None:
    connection.execute(sa.update(executions).where(_C.execution_id == execution_id).values(**values))


def _free(connection: sa.Connection, execution: Execution) -> None:
    """Give the request id back."""
    if not execution.request_id:
        return
    held = (
        request_ids.c.tenant == execution.caller.tenant,
        request_ids.c.request_id == execution.request_id,
        request_ids.c.principal == execution.caller.principal,
        request_ids.c.execution_id == execution.execution_id,
    )
    connection.execute(sa.update(request_ids).where(*held).values(expire_time=0.0))
