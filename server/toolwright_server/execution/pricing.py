"""What is held for a call before it may run: its price in its tenant, within what calls and tasks may cost. Pure."""

from toolwright_server.catalog.model import Tool
from toolwright_server.execution.model import Execution, Invocation
from toolwright_server.limits.rules import CostLimits
from toolwright_server.records.ledger.model import CostLimits as Budget
from toolwright_server.records.ledger.refusals import check_call


def priced(execution: Execution, invocation: Invocation, tool: Tool, costs: CostLimits) -> None:
    """Write down what is to be held for the call. Raises BUDGET_EXCEEDED when one call may not cost so much.

    With limits in shadow only the call's own `max_cost_micros` holds.
    """
    price = tool.asked_price_micros
    if costs.shadow:
        check_call(tool.name, price, Budget(price, price), invocation.max_cost_micros)
    else:
        check_call(tool.name, price, Budget(costs.call_micros, costs.task_micros), invocation.max_cost_micros)
        execution.task_limit_micros = costs.task_micros
    execution.hold_micros = price
    execution.metered = tool.reports_price
