"""The ExecutionStore on SQLite or PostgreSQL: what runs here is answered from memory, all else from the tables.

Writes go through the writer; what it does not take is refused before anything happens, or spilled when it has.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution import charging
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery, asked_for
from toolwright_server.execution.store import RecordFailed, gives_back
from toolwright_server.identity import Caller
from toolwright_server.records.ledger.refusals import denied
from toolwright_server.stores.sql import queries, rows
from toolwright_server.stores.sql.breaker import Breaker
from toolwright_server.stores.sql.change import Change, Denied, Entry, Refused, Spill, Unavailable, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import RETRY_SECONDS, unavailable
from toolwright_server.stores.sql.tables import executions, request_ids
from toolwright_server.stores.sql.writer import Writer

_logger = logging.getLogger(__name__)

_NOT_STARTED: Final = {"outcome": "not_started"}

_ONE = sa.select(*rows.COLUMNS).where(executions.c.execution_id == sa.bindparam("id"))
_HOLDER = (
    sa.select(*rows.COLUMNS)
    .join(request_ids, request_ids.c.execution_id == executions.c.execution_id)
    .where(
        request_ids.c.tenant == sa.bindparam("tenant"),
        request_ids.c.request_id == sa.bindparam("request_id"),
        request_ids.c.principal == sa.bindparam("principal"),
    )
)
_STOPPED = sa.update(executions).where(executions.c.execution_id == sa.bindparam("id"))
_UNCLAIM = sa.delete(request_ids).where(request_ids.c.execution_id == sa.bindparam("id"))


class Evidence(Protocol):
    """What the audit trail is told of an execution."""

    def intent(self, execution: Execution) -> Sequence[Entry]:
        """That it is about to be run."""
        ...

    def outcome(self, execution: Execution) -> Sequence[Entry]:
        """What became of it."""
        ...


class NoEvidence:
    """For a server without an audit trail."""

    def intent(self, execution: Execution) -> Sequence[Entry]:
        del execution
        return ()

    def outcome(self, execution: Execution) -> Sequence[Entry]:
        del execution
        return ()


class SqlExecutionStore:
    """See the module. `ended` is told of each execution that was settled: what else is kept of it may go some day."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        *,
        evidence: Evidence | None = None,
        spill: Spill | None = None,
        ended: Callable[[Execution], None] | None = None,
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.time,
        credits_required: bool = False,
    ) -> None:
        self._database = database
        self._writer = writer
        self._evidence = evidence or NoEvidence()
        self._spill = spill
        self._ended = ended
        self._breaker = breaker
        self._clock = clock
        # Whether a tenant that was never granted credits has none, rather than no need of any.
        self._credits_required = credits_required
        # What runs here, and what has ended but is not in the tables yet.
        self._live: dict[str, Execution] = {}
        # Begun without waiting, and then not kept: their settle brings the evidence of both.
        self._unkept: set[str] = set()
        # Ended, and not recorded as such yet: nobody is told.
        self._settling: set[str] = set()

    def __len__(self) -> int:
        return len(self._live)

    async def add(self, execution: Execution, *, awaited: bool = True) -> Execution | None:
        change = Change(execution, entries=self._evidence.intent(execution))
        if execution.hold_micros:
            awaited = True
            change.moves = (charging.hold(execution, required=self._credits_required),)
        if execution.request_id:
            change.claims = True
            holder = await self._claimed(change, execution)
            if holder is None and change.moved is not None:
                charging.held(execution, change.moved)
            return holder
        if awaited:
            await self._begun(change)
            if change.moved is not None:
                charging.held(execution, change.moved)
        else:
            if change.entries:
                change.done = lambda _, error: self._added(execution, error)
            self._writer.submit_unawaited(change)
        self._live[execution.execution_id] = execution
        return None

    async def settle(self, execution: Execution, *, awaited: bool = True) -> None:
        # First: what it has cost is in the row, and in the evidence.
        moves = charging.settlements(execution) if execution.hold_micros else ()
        change = Change(execution, frees=gives_back(execution), entries=self._last_entries(execution), moves=moves)
        settling = _Settling(self, change)
        change.done = settling
        if not awaited:
            self._writer.submit_unawaited(change)
            return
        if self._breaker is not None and self._breaker.is_open and self._spilled(change):
            # Nobody waits for a database that has just failed.
            self._tell(execution)
            return
        self._settling.add(execution.execution_id)
        try:
            await self._tried(change)
        except Unkept as error:
            if not settling.spilled:
                raise RecordFailed(execution.execution_id) from error

    async def correct(self, execution_id: str, stopped: Stopped) -> None:
        row = self._live.get(execution_id)
        if row is not None:
            row.stopped = stopped
        statement = (_STOPPED.values(stopped=int(stopped)), {"id": execution_id})
        try:
            await self._writer.submit(Change(statements=(statement,)))
        except Unkept as error:
            _logger.warning("%s is not known to have been stopped (%s): %s", execution_id, stopped.name, error)

    async def get(self, caller: Caller, execution_id: str) -> Execution | None:
        if execution_id in self._settling:
            await self._writer.flush()
        found = await self._found(execution_id)
        return found if found is not None and caller.shares_with(found.caller) else None

    async def find(self, caller: Caller, request_id: str) -> Execution | None:
        if not request_id:
            return None
        key = {"tenant": caller.tenant, "principal": caller.principal, "request_id": request_id}
        found = await self._read(_HOLDER, key)
        if not found or not caller.shares_with(found[0].caller):
            return None
        return await self.get(caller, found[0].execution_id)

    async def list(self, caller: Caller, query: ExecutionQuery) -> Sequence[Execution]:
        if self._settling:
            await self._writer.flush()
        page: list[Execution] = []
        before = query.before
        while True:
            # What runs here is newer in memory than in the tables, or not there yet.
            wanted = ExecutionQuery(query.limit - len(page), before, query.condition)
            stored = await self._read(queries.page(rows.COLUMNS, caller, wanted, sqlite=self._is_sqlite))
            last = stored[-1].execution_id if len(stored) == wanted.limit else ""
            found = [row for row in stored if row.execution_id not in self._live]
            found += [
                row
                for row in self._live.values()
                if row.execution_id >= last and asked_for(wanted, row) and caller.shares_with(row.caller)
            ]
            page += sorted(found, key=lambda row: row.execution_id, reverse=True)[: wanted.limit]
            if not last or len(page) >= query.limit:
                return page
            before = last

    def forget(self, execution_id: str) -> None:
        """The outcome of an execution is in the tables after all: answer from there."""
        self._live.pop(execution_id, None)

    def live(self, execution_id: str) -> Execution | None:
        """What runs here, or has ended and is not in the tables yet."""
        return self._live.get(execution_id)

    @property
    def _is_sqlite(self) -> bool:
        return self._database.options.is_sqlite

    async def _claimed(self, change: Change, execution: Execution) -> Execution | None:
        """Keep an execution that has a request id, unless another one has the same: that one."""
        while True:
            holder_id = await self._begun(change)
            if holder_id is None:
                self._live[execution.execution_id] = execution
                return None
            holder = await self._found(holder_id)
            if holder is not None:
                return holder
            # Retention took the holder before its claim ran out: nobody knows what it was.
            await self._kept(self._writer.submit(Change(statements=((_UNCLAIM, {"id": holder_id}),))))

    async def _begun(self, change: Change) -> str | None:
        """Have an intent kept. When that fails or nobody waits any more, what may be kept of it is taken back."""
        execution = change.execution
        assert execution is not None
        if self._breaker is not None:
            self._breaker.check()
        try:
            return await self._tried(change)
        except Denied as error:
            raise denied(error.denial) from error
        except Unkept as error:
            refused = _refused(error)
            if error.in_doubt:
                self._take_back(execution, State.REJECTED, refused.failure)
            raise refused from error
        except asyncio.CancelledError:
            message = "the caller left before the call was started"
            self._take_back(execution, State.CANCELLED, Failure(Reason.CANCELLED, message, metadata=_NOT_STARTED))
            raise

    async def _tried(self, change: Change) -> str | None:
        """Have a change kept, and remember whether the database took it."""
        if self._breaker is None:
            return await self._writer.submit(change)
        try:
            holder = await self._writer.submit(change)
        except Unavailable:
            self._breaker.failed()
            raise
        except Denied:
            self._breaker.worked()
            raise
        self._breaker.worked()
        return holder

    def _take_back(self, execution: Execution, state: State, failure: Failure) -> None:
        execution.move(state)
        execution.failure = failure
        execution.end_time = self._clock()
        moves = charging.settlements(execution) if execution.hold_micros else ()
        entries = self._evidence.outcome(execution)
        change = Change(execution, frees=bool(execution.request_id), entries=entries, moves=moves)
        change.done = _Settling(self, change)
        self._writer.submit_unawaited(change)

    def _added(self, execution: Execution, error: Unkept | None) -> None:
        if error is not None and not execution.ended:
            self._unkept.add(execution.execution_id)

    def _last_entries(self, execution: Execution) -> Sequence[Entry]:
        outcome = self._evidence.outcome(execution)
        if execution.execution_id not in self._unkept:
            return outcome
        self._unkept.discard(execution.execution_id)
        return (*self._evidence.intent(execution), *outcome)

    def settled(self, change: Change, error: Unkept | None) -> bool:
        """An outcome was kept, or not; whether it is safe. One that is spilled is answered from memory until it is
        in the tables.
        """
        execution = change.execution
        assert execution is not None
        self._settling.discard(execution.execution_id)
        if change.moved is not None and error is None:
            execution.balance_micros = change.moved.balance_micros
        self._tell(execution)
        if isinstance(error, Unavailable) and self._spilled(change):
            return True
        if isinstance(error, Unavailable) and self._spill is not None and self._spill.remember(change):
            # Whoever waits is told that it is not recorded; whoever asks later finds an end and does not wait for one.
            self._live[execution.execution_id] = execution
            return False
        self._live.pop(execution.execution_id, None)
        if error is not None:
            _logger.error("the outcome of %s (%s) is lost: %s", execution.execution_id, execution.state.name, error)
        return error is None

    def _tell(self, execution: Execution) -> None:
        # Only now: until an end is recorded, somebody may still open the log of its events.
        if self._ended is not None:
            self._ended(execution)

    def _spilled(self, change: Change) -> bool:
        """Write an outcome down beside the database: it is answered from memory until it is in the tables."""
        execution = change.execution
        if execution is None or self._spill is None or not self._spill.keep(change):
            return False
        self._live[execution.execution_id] = execution
        return True

    async def _found(self, execution_id: str) -> Execution | None:
        row = self._live.get(execution_id)
        if row is not None:
            return row
        found = await self._read(_ONE, {"id": execution_id})
        return found[0] if found else None

    async def _read(self, statement: sa.Select[Any], parameters: dict[str, Any] | None = None) -> Sequence[Execution]:
        try:
            async with self._database.reading() as connection:
                return [rows.execution(row) for row in (await connection.execute(statement, parameters)).all()]
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(error, "the record cannot be read at the moment") from error

    async def _kept(self, change: Awaitable[str | None]) -> None:
        try:
            await change
        except Unkept as error:
            raise _refused(error) from error


class _Settling:
    """What follows the commit of an outcome, also when its caller has gone."""

    __slots__ = ("_change", "_store", "spilled")

    def __init__(self, store: SqlExecutionStore, change: Change) -> None:
        self._store = store
        self._change = change
        self.spilled = False

    def __call__(self, holder: str | None, error: Unkept | None) -> None:
        del holder
        self.spilled = self._store.settled(self._change, error)


def _refused(error: Unkept) -> ToolwrightError:
    if isinstance(error, Refused):
        return ToolwrightError(Reason.INTERNAL, "the call could not be recorded", metadata=_NOT_STARTED)
    message = "the call cannot be recorded at the moment"
    return ToolwrightError(Reason.STORE_UNAVAILABLE, message, metadata=_NOT_STARTED, retry_delay=RETRY_SECONDS)
