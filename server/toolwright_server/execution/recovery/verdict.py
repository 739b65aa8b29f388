"""A decision about an execution that cannot decide for itself any more, and what the audit trail says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from toolwright_server.execution.evidence import outcome_entry
from toolwright_server.execution.model import Execution
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.identity import Caller
from toolwright_server.records.audit.model import Entry, Fact, Kind


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is kept in one transaction: the execution as it was changed, and an entry of the audit trail.

    `frees`: its request id may be used again. `actor` decided; None: a server, by rule. `time` is in seconds since the
    epoch.
    """

    execution: Execution
    kind: Kind
    time: float
    frees: bool = False
    actor: Caller | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


# From a row as it is now: the decision, or None to leave it as it is. Changes the row that it is given and nothing
# else; asked again, with a fresh row, when a commit has failed.
Judge = Callable[[Execution], Verdict | None]


class VerdictStore(Protocol):
    """Executions of all callers, as recovery and reconciliation see them. Raises STORE_UNAVAILABLE."""

    async def orphaned(self) -> Sequence[Lease]:
        """Servers without a lease that left unfinished executions behind."""
        ...

    async def settle(self, lease: Lease, judge: Judge, limit: int) -> Sequence[Execution]:
        """Judge at most `limit` unfinished executions of a server without a lease, in one transaction."""
        ...

    async def decide(self, execution_id: str, judge: Judge) -> Execution | None:
        """Judge one execution in one transaction; it as it is afterwards, None if unknown."""
        ...

    async def ended(self, execution_ids: Sequence[str]) -> Sequence[Execution]:
        """Those of the executions that have ended."""
        ...

    async def doubtful(self, after: str, limit: int) -> Sequence[Execution]:
        """Those of dead servers whose outcome is unknown, in the order of their ids, behind the one named; without
        arguments.
        """
        ...

    async def steps(self, execution: Execution) -> Sequence[Execution]:
        """The calls that an execution has made, without their arguments, whether they have ended or not."""
        ...


def entry(verdict: Verdict) -> Entry:
    """What the audit trail says of it: who decided, about whose execution, and what became of it. Call before the
    execution's values are taken.
    """
    caller, actor = verdict.execution.caller, verdict.actor
    said = outcome_entry(verdict.execution)
    return said._replace(
        kind=verdict.kind,
        principal="" if actor is None else actor.principal,
        user="" if actor is None else actor.user,
        time=verdict.time,
        facts={**said.facts, "owner_principal": caller.principal, "owner_user": caller.user, **verdict.facts},
    )
