"""What callers hear when a call may cost too much, or its tenant has too little. Amounts in metadata are micros."""

from toolwright_server.credits import words
from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.records.ledger.model import CostLimits, Denial


def check_call(tool: str, price_micros: int, limits: CostLimits, most_micros: int | None) -> None:
    """Raise BUDGET_EXCEEDED when one call of the tool costs more than any call may, or than its caller allows.

    `most_micros` is the call's own `max_cost_micros`; None: it names none. Ask only where there is a price.
    """
    narrowed = most_micros is not None and most_micros < limits.call_micros
    limit = most_micros if narrowed and most_micros is not None else limits.call_micros
    if price_micros > limit:
        whose = "the call allows" if narrowed else "a call may cost"
        raise _error(
            Reason.BUDGET_EXCEEDED,
            f"{tool} costs up to {words(price_micros)} credits; {whose} at most {words(limit)}",
            {"scope": "call", "subject": tool, "used": "0", "limit": str(limit), "price": str(price_micros)},
        )


def denied(denial: Denial) -> ToolwrightError:
    """The error of a move that was not made."""
    used, limit, asked = words(denial.used), words(denial.limit), words(denial.asked)
    facts = {"subject": denial.subject, "used": str(denial.used), "limit": str(denial.limit)}
    if denial.reason is Reason.BUDGET_EXCEEDED:
        return _error(
            denial.reason,
            f"the task {denial.subject[:128]!r} has cost {used} of at most {limit} credits; this call costs up to "
            f"{asked}",
            {"scope": "task", **facts, "price": str(denial.asked)},
        )
    if denial.reason is Reason.INSUFFICIENT_CREDITS:
        return _error(
            denial.reason,
            f"the tenant {denial.subject[:128]!r} has {limit} credits; this call costs up to {asked}",
            {"subject": denial.subject, "available": str(denial.limit), "price": str(denial.asked)},
        )
    if denial.subject == "expire_time":
        return invalid(denial.subject, "must lie in the future")
    return invalid(denial.subject, f"the tenant was granted {used} credits already, and at most {limit} can be")


def _error(reason: Reason, message: str, metadata: dict[str, str]) -> ToolwrightError:
    return ToolwrightError(reason, message, metadata={**metadata, "outcome": "not_started"})
