"""How a limit looks to whoever asks for its quota: what the limits' engine answers, by its shape alone."""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Protocol

from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.identity import Caller


class Limited(Protocol):
    """A rule as it holds for somebody. `kind` is named WINDOW, DAY, MONTH or RUNNING."""

    @property
    def rule(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def kind(self) -> Enum: ...
    @property
    def limit(self) -> int: ...
    @property
    def window_seconds(self) -> float: ...
    @property
    def shadow(self) -> bool: ...


class Reading(Protocol):
    """A limit as it stands. `reset_seconds`: until one more fits, or until it begins anew; 0 or less: not known."""

    @property
    def check(self) -> Limited: ...
    @property
    def used(self) -> int: ...
    @property
    def reset_seconds(self) -> float: ...


Readings = Callable[[str, str], Awaitable[Sequence[Reading]]]
"""Every limit that holds for a tenant and a user."""


async def no_limits(tenant: str, user: str) -> Sequence[Reading]:
    """For a server without limits."""
    del tenant, user
    return ()


def holder(user: str, tenant: str, by: Caller) -> tuple[str, str]:
    """Whose limits are asked for: tenant and user. Empty: the caller's. Raises INVALID_ARGUMENTS or FORBIDDEN."""
    if not user and tenant not in {"", by.tenant}:
        raise invalid("user_id", "is missing: limits of another tenant are those of one of its users")
    tenant, user = tenant or by.tenant, user or by.user
    if not by.sees(tenant, user):
        raise ToolwrightError(Reason.FORBIDDEN, f"the limits of user {user[:64]!r} are not for this credential")
    return tenant, user
