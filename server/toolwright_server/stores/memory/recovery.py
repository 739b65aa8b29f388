"""Executions in memory, as recovery and reconciliation see them."""

from collections.abc import Callable, Mapping, Sequence

from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.execution.recovery.verdict import Judge, Verdict
from toolwright_server.stores.memory.leases import MemoryLeases


class MemoryRecovery:
    """A VerdictStore over the rows of a MemoryExecutionStore. `decided` is told of each verdict: it frees the request
    id when that is asked, and writes the audit trail.
    """

    def __init__(self, rows: Mapping[str, Execution], leases: MemoryLeases, decided: Callable[[Verdict], None]) -> None:
        self._rows = rows
        self._leases = leases
        self._decided = decided

    async def orphaned(self) -> Sequence[Lease]:
        found = {Lease(row.server_id, row.epoch) for row in self._rows.values() if not row.ended}
        return [lease for lease in found if not self._leases.holds(lease)]

    async def settle(self, lease: Lease, judge: Judge, limit: int) -> Sequence[Execution]:
        if self._leases.holds(lease):
            return ()
        left = [
            row
            for row in self._rows.values()
            if not row.ended and (row.server_id, row.epoch) == (lease.server_id, lease.epoch)
        ]
        for row in left[:limit]:
            self._judge(row, judge)
        return left[:limit]

    async def decide(self, execution_id: str, judge: Judge) -> Execution | None:
        row = self._rows.get(execution_id)
        if row is not None:
            self._judge(row, judge)
        return row

    async def ended(self, execution_ids: Sequence[str]) -> Sequence[Execution]:
        found = (self._rows.get(execution_id) for execution_id in execution_ids)
        return [row for row in found if row is not None and row.ended]

    async def doubtful(self, after: str, limit: int) -> Sequence[Execution]:
        found = [
            row
            for row in sorted(self._rows.values(), key=lambda row: row.execution_id)
            if row.execution_id > after
            and row.state is State.OUTCOME_UNKNOWN
            and not self._leases.holds(Lease(row.server_id, row.epoch))
        ]
        return found[:limit]

    async def steps(self, execution: Execution) -> Sequence[Execution]:
        return [row for row in self._rows.values() if row.parent_execution_id == execution.execution_id]

    def _judge(self, row: Execution, judge: Judge) -> None:
        verdict = judge(row)
        if verdict is not None:
            self._decided(verdict)
