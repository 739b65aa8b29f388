"""Whether a call may begin by its limits: at once, or after waiting for a place within its deadline.

Who makes a call again that was made already is answered whatever its limits say: nothing runs for it.
"""

from collections.abc import Sequence
from typing import Final

from toolwright_server.catalog.model import Tool
from toolwright_server.catalog.settings_model import LIMIT_KINDS
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.deadline import Deadline
from toolwright_server.execution.model import Execution, Invocation, LimitWarning
from toolwright_server.execution.pricing import priced
from toolwright_server.execution.store import ExecutionStore, claims
from toolwright_server.limits import refusal as limits
from toolwright_server.limits.limiter import Admission, Asked, Limiter
from toolwright_server.limits.model import Kind

# As tool settings name them, which see.
_KINDS: Final = {name: Kind[name.upper()] for name in LIMIT_KINDS}


# Refused calls whose request ids are looked up at a time. In a flood of refusals the rest are told to come back, as
# they would be without a request id: refusing must stay cheaper than serving.
LOOKS_LIMIT: Final = 16


class Admissions:
    """Asks the limiter for each call. The execution's id is the token under which its places are held."""

    def __init__(self, limiter: Limiter, store: ExecutionStore) -> None:
        self._limiter = limiter
        self._store = store
        self._looking = 0

    def at_once(self, invocation: Invocation, tool: Tool, execution: Execution) -> Admission | None:
        """Let a call in without waiting; None when that takes `admitted`. Raises as that."""
        if invocation.request_id:
            return None
        self._price(invocation, tool, execution)
        asked = _asked(invocation, tool)
        checks = self._limiter.checks_for(asked)
        return self._limiter.admit_now(checks, execution.execution_id, may_wait=not asked.nested)

    async def admitted(
        self, invocation: Invocation, tool: Tool, execution: Execution, deadline: Deadline
    ) -> Admission | Execution:
        """Let a call in, or the execution that holds its request id already.

        Raises BUDGET_EXCEEDED, RATE_LIMITED or CONCURRENCY_LIMITED. Cancelled, it leaves nothing behind.
        """
        asked, token = _asked(invocation, tool), execution.execution_id
        if not invocation.request_id:
            return await self._limiter.admit(asked, token, deadline.remaining())
        try:
            self._price(invocation, tool, execution)
            return await self._limiter.admit(asked, token, 0.0)
        except ToolwrightError as refused:
            holder = await self._holder(invocation, execution)
            if holder is not None:
                return holder
            if refused.failure.reason is not Reason.CONCURRENCY_LIMITED or asked.nested:
                raise
        return await self._limiter.admit(asked, token, deadline.remaining())

    def free(self, execution: Execution) -> Admission:
        """Let a call in that takes nothing: its tool is not called for it."""
        admission = self._limiter.admit_now((), execution.execution_id)
        assert admission is not None, "without checks nobody waits"
        return admission

    async def _holder(self, invocation: Invocation, execution: Execution) -> Execution | None:
        """The call that was made before under the same request id."""
        if self._looking >= LOOKS_LIMIT:
            return None
        self._looking += 1
        try:
            holder = await self._store.find(invocation.caller, invocation.request_id)
        finally:
            self._looking -= 1
        return holder if holder is not None and claims(holder, execution.create_time) else None

    def _price(self, invocation: Invocation, tool: Tool, execution: Execution) -> None:
        if tool.asked_price_micros:
            priced(execution, invocation, tool, self._limiter.cost_limits(invocation.caller.tenant))


def kept(warnings: Sequence[limits.LimitWarning], now: float) -> tuple[LimitWarning, ...]:
    """Warnings as an execution keeps them: with the time at which one more fits, `now` in seconds since the epoch."""
    return tuple(
        LimitWarning(each.kind, each.subject, each.threshold_percent, each.used, each.limit, now + each.reset_seconds)
        for each in warnings
    )


def _asked(invocation: Invocation, tool: Tool) -> Asked:
    caller, overrides = invocation.caller, None
    if tool.terms is not None and tool.terms.limits:
        overrides = {_KINDS[name]: limit for name, limit in tool.terms.limits.items()}
    return Asked(caller.tenant, caller.user, tool.name, tool.category, overrides, nested=invocation.depth > 0)
