"""Many calls of one rpc: begun in their order, so many at a time, inside one deadline. What becomes of each is data.

Each call walks the corridor by itself, and nothing here decides about one. Knows neither gRPC nor messages.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.elsewhere.distant import Distant
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Execution, Invocation, State

_logger = logging.getLogger(__name__)

# Calls are read on the event loop; between so many bytes of them others have their turn.
READ_AT_ONCE_BYTES: Final = 256 * 1024

NO_TIME: Final = Failure(
    Reason.CLIENT_DEADLINE,
    "the deadline of the batch left no time to begin this call",
    metadata={"outcome": "not_started", "source": "CLIENT"},
)
STOPPED: Final = Failure(
    Reason.BATCH_STOPPED,
    "an earlier call of the batch did not succeed, and stop_on_failure is set",
    metadata={"outcome": "not_started"},
)
_DEFECT: Final = Failure(
    Reason.INTERNAL, "the server failed while it handled this call", metadata={"outcome": "unknown"}
)
_NOT_HEARD_OF: Final = Failure(
    Reason.CLIENT_DEADLINE,
    "the deadline of the batch passed while this call was being begun; it is detached and goes on without its caller",
    suggested_action="Look it up by its request id with GetExecution; never send it under another one.",
    metadata={"outcome": "unknown"},
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a batch. `read` makes its Invocation from `size` bytes, or raises why it is refused."""

    read: Callable[[], Invocation]
    size: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked for. `until` is the monotonic instant by which all must have ended; None: only their own limits."""

    calls: Sequence[Call]
    max_parallel: int
    stop_on_failure: bool
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of one call.

    `execution` None: it was refused or not begun, `failure` says why. With both, the execution goes on without its
    caller. `result` is what its tool answered, which need not be what is kept; `seconds` since the call was begun.
    """

    execution: Execution | None = None
    result: bytes | None = None
    as_json: bool = True
    failure: Failure | None = None
    seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether its tool answered."""
        return self.execution is not None and self.execution.state is State.SUCCEEDED


Execute = Callable[[Invocation], Awaitable[Flight | Distant]]
# Told of each call, by its place in the batch, as soon as it has ended: the row may change afterwards.
Told = Callable[[int, Ended], None]


async def run(batch: Batch, execute: Execute, told: Told, clock: Callable[[], float] = time.monotonic) -> None:
    """Run all calls; `told` is called once for each. Cancelled, it leaves those that run and begins no other."""
    await _Run(batch, execute, told, clock).all()


class _Run:
    """One batch while it runs."""

    def __init__(self, batch: Batch, execute: Execute, told: Told, clock: Callable[[], float]) -> None:
        self._batch = batch
        self._execute = execute
        self._told = told
        self._clock = clock
        self._places = asyncio.Semaphore(batch.max_parallel)
        self._failed = False

    async def all(self) -> None:
        unread = 0
        async with asyncio.TaskGroup() as group:
            for number, call in enumerate(self._batch.calls):
                await self._places.acquire()
                refusal = self._refusal()
                if refusal is not None:
                    self._ended(number, Ended(failure=refusal))
                    continue
                group.create_task(self._walked(number, call))
                unread += call.size
                if unread > READ_AT_ONCE_BYTES:
                    unread = 0
                    await asyncio.sleep(0)

    def _refusal(self) -> Failure | None:
        """Why no further call is begun."""
        if self._failed and self._batch.stop_on_failure:
            return STOPPED
        left = self._left()
        return NO_TIME if left is not None and left <= 0 else None

    def _left(self) -> float | None:
        return None if self._batch.until is None else self._batch.until - self._clock()

    async def _walked(self, number: int, call: Call) -> None:
        began = self._clock()
        ended = await self._outcome(call, began)
        self._ended(number, replace(ended, seconds=self._clock() - began))

    def _ended(self, number: int, ended: Ended) -> None:
        self._failed = self._failed or not ended.succeeded
        self._told(number, ended)
        self._places.release()

    async def _outcome(self, call: Call, began: float) -> Ended:
        flight, as_json = None, True
        try:
            # Its own limits count from now, and what is left of the batch's time is what its caller gives it.
            invocation = replace(call.read(), received=began, client_budget=self._left())
            as_json = invocation.as_json
            flight = await self._begun(invocation)
            await outlast(flight, invocation)
        except ToolwrightError as error:
            return Ended(execution=None if flight is None else flight.execution, failure=error.failure)
        except BaseException as error:
            if not _is_defect(error):
                raise
            # It takes no other call along.
            _logger.exception("a call of a batch failed by a defect of the server")
            return Ended(execution=None if flight is None else flight.execution, failure=_DEFECT)
        return Ended(execution=flight.execution, result=flight.answer, as_json=as_json)

    async def _begun(self, invocation: Invocation) -> Flight | Distant:
        if invocation.client_budget is None or not invocation.detach:
            return await self._execute(invocation)
        try:
            # It may wait for its place longer than its caller does, who wants to hear of the others in time.
            async with asyncio.timeout(invocation.client_budget):
                return await self._execute(invocation)
        except TimeoutError:
            raise ToolwrightError.of(_NOT_HEARD_OF) from None


def _is_defect(error: BaseException) -> bool:
    """Not so: the batch itself was cancelled."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError):
        return task is not None and not task.cancelling()
    return isinstance(error, Exception)
