"""Executions that somebody else decides: recovery, reconciliation, and outcomes that come back from the spill file.

Each decision looks at the row and changes it in one transaction of the writer, with its entry in the audit trail.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.charging import settlements
from toolwright_server.execution.model import TERMINAL, Execution, State
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.execution.recovery.verdict import Judge, entry
from toolwright_server.execution.usage import used
from toolwright_server.records.ledger.model import Move
from toolwright_server.records.usage.model import Use
from toolwright_server.stores.sql import rows
from toolwright_server.stores.sql.change import Change, Entry, Refused, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import A_STEP, DOUBTFUL, UNFINISHED, executions, request_ids, servers
from toolwright_server.stores.sql.writer import DAY_SECONDS, Writer

_C: Final = executions.c
_UNFINISHED: Final = sa.text(UNFINISHED)
_A_STEP: Final = sa.text(A_STEP)
_DOUBTFUL: Final = sa.text(DOUBTFUL)
# Nobody judges by arguments, and those of a batch may be large.
_WITHOUT_ARGUMENTS: Final = tuple(
    sa.literal(None, sa.LargeBinary).label("arguments") if column is _C.arguments else column for column in rows.COLUMNS
)
_NUMBERS: Final = {column.name: number for number, column in enumerate(rows.COLUMNS)}
_DECIDED: Final = ("state", "end_time", "stopped", "body", "result", "salt", "cost_micros", "admin_message")


@dataclass(slots=True)
class _Follows:
    """What a decision orders for its commit: moves of credits, and what changes in the figures of usage."""

    moves: list[Move] = field(default_factory=list[Move])
    uses: list[tuple[int, Use]] = field(default_factory=list[tuple[int, Use]])


class SqlRecovery:
    """See the module. Not `audited`: for a server without an audit trail. `usage_days`: how long figures of usage are
    kept, 0 for ever. What is older is erased, and nothing is taken from it. `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        writer: Writer,
        *,
        audited: bool = True,
        usage_days: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._writer = writer
        self._audited = audited
        self._usage_days = usage_days
        self._clock = clock

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

        def work(connection: sa.Connection, follows: _Follows) -> Sequence[Entry]:
            found[:] = [rows.execution(row) for row in connection.execute(query).all()]
            return [entry for execution in found for entry in self._judged(connection, follows, execution, judge)]

        await self._transact(work)
        return found

    async def decide(self, execution_id: str, judge: Judge) -> Execution | None:
        query = sa.select(*rows.COLUMNS).where(_C.execution_id == execution_id).with_for_update()
        found: list[Execution] = []

        def work(connection: sa.Connection, follows: _Follows) -> Sequence[Entry]:
            found[:] = [rows.execution(row) for row in connection.execute(query).all()]
            return self._judged(connection, follows, found[0], judge) if found else ()

        await self._transact(work)
        return found[0] if found else None

    async def ended(self, execution_ids: Sequence[str]) -> Sequence[Execution]:
        query = sa.select(*rows.COLUMNS).where(
            _C.execution_id.in_(execution_ids), _C.state.in_([state.value for state in TERMINAL])
        )
        return [rows.execution(row) for row in await self._read(query)]

    async def doubtful(self, after: str, limit: int) -> Sequence[Execution]:
        query = (
            sa.select(*_WITHOUT_ARGUMENTS)
            .where(_DOUBTFUL, _C.execution_id > after, ~_is_leased(_C.server_id, _C.epoch))
            .order_by(_C.execution_id)
            .limit(limit)
        )
        return [rows.execution(row) for row in await self._read(query)]

    async def steps(self, execution: Execution) -> Sequence[Execution]:
        query = sa.select(*_WITHOUT_ARGUMENTS).where(
            # By the index of a task's tree: nothing else finds steps.
            _C.task_id == execution.task_id,
            _A_STEP,
            _C.parent_execution_id == execution.execution_id,
        )
        return [rows.execution(row) for row in await self._read(query)]

    async def restore(self, execution: Execution, entries: Sequence[Entry], frees: bool) -> State | None:
        """Keep an outcome that was written down elsewhere, unless the row has one that is known: the state of the row
        as it was found, None when there was none.
        """
        found: list[State | None] = []

        query = sa.select(*_WITHOUT_ARGUMENTS).where(_C.execution_id == execution.execution_id).with_for_update()

        def work(connection: sa.Connection, follows: _Follows) -> Sequence[Entry]:
            row = connection.execute(query).one_or_none()
            before = None if row is None else rows.execution(row)
            found.append(None if before is None else before.state)
            if before is not None and before.state in _KNOWN:
                return ()
            counted = used(before) if before is not None and before.ended else None
            values = dict(zip(_NUMBERS, rows.values(execution), strict=True)) | {"labels": execution.labels or None}
            if before is None:
                connection.execute(sa.insert(executions), values)
            else:
                _update(connection, execution.execution_id, {name: values[name] for name in rows.MUTABLE})
            if frees:
                _free(connection, execution)
            follows.moves += settlements(execution)
            self._count(follows, counted, execution)
            return entries

        await self._transact(work)
        return found[-1]

    def _judged(
        self, connection: sa.Connection, follows: "_Follows", execution: Execution, judge: Judge
    ) -> Sequence[Entry]:
        counted = used(execution) if execution.ended else None
        verdict = judge(execution)
        if verdict is None:
            return ()
        follows.moves += settlements(verdict.execution)
        self._count(follows, counted, verdict.execution)
        said = (entry(verdict),) if self._audited else ()
        values = rows.values(verdict.execution)
        _update(connection, execution.execution_id, {name: values[_NUMBERS[name]] for name in _DECIDED})
        if verdict.frees:
            _free(connection, execution)
        return said

    def _count(self, follows: "_Follows", counted: Use | None, execution: Execution) -> None:
        """Have the figures of usage say what became of it, in the place of what they said before."""
        if counted is None:
            follows.uses.append((1, used(execution)))
        elif not self._usage_days or execution.create_time >= self._clock() - self._usage_days * DAY_SECONDS:
            follows.uses += ((-1, counted), (1, used(execution)))

    async def _transact(self, decide: Callable[[sa.Connection, "_Follows"], Sequence[Entry]]) -> None:
        """Have something decided, and have made what follows from it."""
        follows = _Follows()

        def work(connection: sa.Connection) -> Sequence[Entry]:
            follows.moves.clear()
            follows.uses.clear()
            return decide(connection, follows)

        try:
            await self._writer.submit(Change(work=work, moves=follows.moves, uses=follows.uses))
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
_KNOWN: Final = TERMINAL - {State.OUTCOME_UNKNOWN}


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
