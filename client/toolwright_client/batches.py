"""Many calls of one rpc. The whole is sent again when its answer was lost; else what would be, had it been sent alone.

What has been answered is kept, whatever becomes of the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import grpc

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client import wire
from toolwright_client.calls import Caller
from toolwright_client.connection import TRANSPORT_BYTES
from toolwright_client.deadline import Budget
from toolwright_client.errors import BatchStopped, ConnectionLost, NotConnected, PayloadTooLarge, ToolwrightError
from toolwright_client.lookup import Lookup, outcome_unknown
from toolwright_client.model import NOT_STARTED, UNKNOWN, Execution, Failure, State
from toolwright_client.retries import Tries, may_repeat
from toolwright_client.statuses import after_doubt, doubted, error_of_execution


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for the whole batch."""

    max_parallel: int
    stop_on_failure: bool
    metadata: Mapping[str, str]


class Batch:
    """The calls of one batch, which all have a request id, until each has an answer."""

    def __init__(
        self, caller: Caller, lookup: Lookup, budget: Budget, calls: Sequence[common_pb2.ToolCall], terms: Terms
    ) -> None:
        self._caller = caller
        self._lookup = lookup
        self._budget = budget
        self._calls = calls
        self._terms = terms
        self._tries = Tries(caller.policy)
        self._found: dict[int, Execution] = {}

    async def executions(self) -> list[Execution]:
        """One for each call, in their order, whatever its outcome. Raises ToolwrightError when there is no answer."""
        pending: Sequence[int] = range(len(self._calls))
        while await self._answered(pending):
            pending = self._repeatable()
            if not pending or not await self._caller.pause(self._delay(pending), self._budget):
                break
        return [await self._whole(self._found[number]) for number in range(len(self._calls))]

    async def _answered(self, pending: Sequence[int]) -> bool:
        """Sends the calls until there is an answer to them; False when there will be none and others have one."""
        request = self._request(pending)
        while True:
            rpc = self._caller.connection.open().executions.BatchExecute
            try:
                answer = await self._caller.once(rpc, request, self._budget, "", self._terms.metadata)
            except ToolwrightError as error:
                if await self._caller.pause(self._tries.delay(error), self._budget):
                    continue
                self._give_up(pending, after_doubt(error) if self._tries.doubt else error)
                return False
            for number, raw in zip(pending, answer.executions, strict=True):
                self._found[number] = self._read(raw)
            return True

    def _request(self, pending: Sequence[int]) -> tool_execution_pb2.BatchExecuteRequest:
        request = tool_execution_pb2.BatchExecuteRequest(
            calls=[self._calls[number] for number in pending],
            max_parallel=self._terms.max_parallel,
            stop_on_failure=self._terms.stop_on_failure,
        )
        if (size := request.ByteSize()) > TRANSPORT_BYTES:
            raise _too_large(size)
        return request

    def _read(self, raw: common_pb2.Execution) -> Execution:
        """That a call was not started proves nothing when an earlier try may have run."""
        execution = wire.execution(raw)
        if self._tries.doubt and execution.error is not None:
            return replace(execution, error=doubted(execution.error))
        return execution

    def _repeatable(self) -> list[int]:
        """The calls that would be sent again if they had been made alone.

        Where failures stop the batch, calls that were stopped follow those, unless something else has failed for good.
        """
        errors = {
            number: error_of_execution(execution)
            for number, execution in self._found.items()
            if execution.state is not State.SUCCEEDED
        }
        again = {number for number, error in errors.items() if may_repeat(error)}
        if not self._terms.stop_on_failure or not again:
            return sorted(again)
        stopped = {number for number, error in errors.items() if isinstance(error, BatchStopped)}
        return sorted(errors) if again | stopped == set(errors) else []

    def _delay(self, pending: Sequence[int]) -> float | None:
        """All wait for the one that must wait longest."""
        errors = [error_of_execution(self._found[number]) for number in pending]
        return self._tries.next_delay(max(errors, key=lambda error: error.retry_delay or 0))

    def _give_up(self, pending: Sequence[int], error: ToolwrightError) -> None:
        """There is no answer to these calls. Raises, unless others have one, which must not be lost."""
        in_doubt = error.outcome == UNKNOWN and not self._caller.connection.closed
        lost = isinstance(error, ConnectionLost | NotConnected) and in_doubt
        doubtful = [self._calls[number] for number in pending if lost and not self._is_repeatable(number)]
        if not self._found:
            if doubtful:
                names = ", ".join(call.request_id for call in doubtful)
                raise outcome_unknown(error, "asking for it again failed", names) from error
            raise error
        if error.outcome == NOT_STARTED:
            return
        for number in pending:
            failure = error.failure
            if lost and not self._is_repeatable(number):
                request_id = self._calls[number].request_id
                failure = outcome_unknown(error, "asking for it again failed", request_id).failure
            self._found[number] = replace(self._found[number], state=State.OUTCOME_UNKNOWN, error=failure)

    def _is_repeatable(self, number: int) -> bool:
        return self._lookup.is_repeatable(self._calls[number].tool, self._calls[number].tool_version)

    async def _whole(self, execution: Execution) -> Execution:
        """The execution with its result, when it was left out of an answer that would have been too large."""
        error = execution.error
        if execution.state is not State.SUCCEEDED or error is None or error.metadata.get("kept") != "true":
            return execution
        try:
            found = await self._lookup.by_id(execution.execution_id, self._budget)
        except ToolwrightError:
            return execution
        return found if found.raw.HasField("result") else execution


def _too_large(size: int) -> PayloadTooLarge:
    failure = Failure(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason="PAYLOAD_TOO_LARGE",
        message=f"the batch has {size} bytes, at most {TRANSPORT_BYTES} may be; nothing was sent",
        suggested_action="Send fewer calls in one batch.",
        metadata={"outcome": NOT_STARTED, "size": str(size), "limit": str(TRANSPORT_BYTES)},
    )
    return PayloadTooLarge(failure)
