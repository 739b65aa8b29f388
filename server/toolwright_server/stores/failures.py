"""Failures as plain data, as every store keeps them."""

from collections.abc import Mapping
from typing import Any

from toolwright_server.errors import Failure, Reason, Violation


def plain(failure: Failure) -> dict[str, Any]:
    """What JSON can hold of a failure, but for what only operators are told: that is kept apart."""
    kept: dict[str, Any] = {
        "reason": failure.reason.name,
        "message": failure.message,
        "user_message": failure.user_message,
        "suggested_action": failure.suggested_action,
        "retryable": failure.retryable,
        "retry_delay": failure.retry_delay,
        "metadata": dict(failure.metadata),
        "violations": [[violation.field, violation.description] for violation in failure.violations],
    }
    return {name: value for name, value in kept.items() if value not in ("", None, {}, [])}


def read(kept: Mapping[str, Any]) -> Failure:
    """The failure that `plain` wrote, also by a newer release."""
    violations = tuple(Violation(field, description) for field, description in kept.get("violations", ()))
    # A reason that a newer release wrote: what it says to people is kept, what programs do with it is not known.
    name = kept["reason"]
    reason = Reason[name] if name in Reason.__members__ else Reason.INTERNAL
    texts = {key: kept[key] for key in ("user_message", "suggested_action", "retryable", "retry_delay") if key in kept}
    return Failure(reason, kept.get("message", ""), metadata=kept.get("metadata", {}), violations=violations, **texts)
