"""Settles what dead servers left behind, by one rule: what had an intent may have happened.

Nothing is run again here; whether an unknown outcome can be learned is asked by reconcile.py.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.execution.recovery.verdict import Verdict, VerdictStore
from toolwright_server.records.audit.model import Kind

_logger = logging.getLogger(__name__)

# So many executions are settled in one transaction.
BATCH: Final = 256


class Recovery:
    """See the module. `unsettled` is told of those of dead servers whose outcome is unknown, also when another server
    found it so and did not live to learn more; it must not wait for look-ups.
    """

    def __init__(
        self,
        store: VerdictStore,
        own: Lease,
        *,
        unsettled: Callable[[Sequence[Execution]], None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._own = own
        self._unsettled = unsettled
        self._now = now
        self.settled = 0

    async def run(self, *, anew: bool) -> None:
        """Settle everything that dead servers left behind; safe when several servers do it at once. `anew`: a server
        may have died since the last time, and with it whatever it was about to ask.
        """
        before = self.settled
        for lease in await self._store.orphaned():
            if lease != self._own:
                await self._settle(lease)
        if self._unsettled is not None and (anew or self.settled > before):
            await self._tell(self._unsettled)

    async def _tell(self, unsettled: Callable[[Sequence[Execution]], None]) -> None:
        last = ""
        while found := await self._store.doubtful(last, BATCH):
            unsettled(found)
            last = found[-1].execution_id

    async def _settle(self, lease: Lease) -> None:
        count = unknown = 0
        more = True
        while more:
            found = await self._store.settle(lease, lambda row: judged(row, self._own.server_id, self._now()), BATCH)
            more = len(found) == BATCH
            count += len(found)
            unknown += sum(execution.state is State.OUTCOME_UNKNOWN for execution in found)
        if not count:
            return
        self.settled += count
        _logger.warning(
            "settled %d executions that server %s (epoch %d) left behind, %d of them with an unknown outcome",
            count,
            lease.server_id,
            lease.epoch,
            unknown,
        )


def judged(execution: Execution, by: str, now: float) -> Verdict:
    """What an execution comes to whose server died, as judged `by` another at the time `now`. Changes the execution.

    A SIDE_EFFECT tool may have been started as soon as there was an intent: OUTCOME_UNKNOWN. The others are FAILED and
    give their request id back, since doing them again does no harm.
    """
    side_effect = execution.effect is Effect.SIDE_EFFECT
    if execution.state is State.QUEUED:
        # Its start is not written down: it may have been.
        execution.move(State.RUNNING)
    execution.move(State.OUTCOME_UNKNOWN if side_effect else State.FAILED)
    execution.end_time = now
    # The change of its state, and `finished`.
    execution.last_sequence += 2
    execution.stopped = Stopped.UNKNOWN
    execution.failure = _failure(execution)
    facts = {"dead_server": execution.server_id, "dead_epoch": str(execution.epoch), "by_server": by}
    return Verdict(execution, Kind.RECOVERY, now, frees=not side_effect, facts=facts)


def _failure(execution: Execution) -> Failure:
    metadata = {
        "outcome": "none" if execution.effect is Effect.READ_ONLY else "unknown",
        "server_id": execution.server_id,
        "execution_id": execution.execution_id,
    }
    message = f"server {execution.server_id} ended while it ran {execution.tool}"
    if execution.effect is Effect.SIDE_EFFECT:
        return Failure(Reason.OUTCOME_UNKNOWN, message, metadata=metadata)
    return Failure(
        Reason.INTERNAL,
        message,
        user_message="The service broke down while it worked on this.",
        suggested_action="Make the call again.",
        retryable=True,
        # A delay, so that the status of whoever joined the call says so, too.
        retry_delay=0.0,
        metadata=metadata,
    )
