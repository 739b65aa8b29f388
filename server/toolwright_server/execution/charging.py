"""What a call is charged: from its price, from what its tool has reported, and from how it ended. Pure.

A fixed price is charged for success alone. Whoever reports has spent something: that is charged however it ends.
"""

import logging
from collections.abc import Sequence

from toolwright_server.execution.model import Execution, LimitWarning, State
from toolwright_server.records.ledger.model import Hold, Moved, Settle
from toolwright_server.records.ledger.thresholds import passed

_logger = logging.getLogger(__name__)


def hold(execution: Execution, *, required: bool) -> Hold:
    """What is to be set aside before it may run."""
    caller = execution.caller
    return Hold(
        execution.execution_id,
        caller.tenant,
        caller.user,
        execution.task_id,
        execution.hold_micros,
        execution.task_limit_micros,
        required,
    )


def held(execution: Execution, moved: Moved) -> None:
    """What was set aside brings its task near to its limit: a warning."""
    limit = execution.task_limit_micros
    if limit is None or moved.repeated:
        return
    used = moved.task_micros
    threshold = passed(used - execution.hold_micros, used, limit)
    if threshold is not None:
        warning = LimitWarning("task_cost", execution.task_id, threshold, used, limit)
        execution.warnings = (*execution.warnings, warning)


def report(execution: Execution, micros: int) -> None:
    """The tool says that it has spent so much more. What goes beyond the hold is not charged, and said in the log."""
    if execution.ended or not execution.metered:
        return
    total = execution.reported_micros + micros
    if total > execution.hold_micros:
        _logger.warning(
            "%s reports a cost of %d micros, more than the %d that are held for it",
            execution.tool,
            total,
            execution.hold_micros,
            extra={"execution_id": execution.execution_id},
        )
    execution.reported_micros = min(total, execution.hold_micros)


def settlements(execution: Execution) -> Sequence[Settle]:
    """What follows from its end, as `cost_micros` says from then on. Nothing while nobody knows how it ended."""
    if not execution.hold_micros or not execution.ended or execution.state is State.OUTCOME_UNKNOWN:
        return ()
    execution.cost_micros = _cost(execution)
    return (Settle(execution.execution_id, execution.caller.tenant, execution.cost_micros),)


def reconciled(execution: Execution) -> None:
    """It is known to have succeeded after all. Of a tool that reported nothing while that was unknown, the hold."""
    if execution.metered and not execution.reported_micros:
        execution.reported_micros = execution.hold_micros


def _cost(execution: Execution) -> int:
    if execution.metered:
        return min(execution.reported_micros, execution.hold_micros)
    # What answered in its place has a price of its own.
    is_own = execution.state is State.SUCCEEDED and execution.fallback is None
    return execution.hold_micros if is_own else 0
