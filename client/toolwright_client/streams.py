"""The events of one execution, as one unbroken stream: it re-attaches when a connection or a slow reader broke it.

What is not known to the caller yet is asked for again by the call's request id, which the server does once.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Self

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client import wire
from toolwright_client.calls import Caller
from toolwright_client.deadline import Budget
from toolwright_client.errors import (
    ConnectionLost,
    DeadlineExceeded,
    EventsExpired,
    ExecutionNotFound,
    LimitReached,
    NotConnected,
    SlowConsumer,
    ToolwrightError,
    Unavailable,
)
from toolwright_client.events import Event, Finished, Snapshot
from toolwright_client.lookup import Lookup, outcome_unknown
from toolwright_client.model import UNKNOWN, Execution, State
from toolwright_client.result import Result
from toolwright_client.retries import Tries
from toolwright_client.statuses import after_doubt, error_of_execution


@dataclass(slots=True)
class Opening:
    """What a stream starts from: a call to make, or an execution that is known already."""

    call: common_pb2.ToolCall | None = None
    execution_id: str = ""
    after_sequence: int = 0
    stop_when_closed: bool = False
    """Cancel the execution when the stream is closed early; otherwise the disconnect decides."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


class EventStream(AsyncIterator[Event]):
    """The events of one execution, in order, ending with `Finished`, whatever the outcome.

    Iterate it, or ask for the `result()`. Leaving it early (`aclose`, `async with`, or cancelling the task that reads)
    stops an execution that the stream started, unless it was detached.
    """

    def __init__(
        self,
        caller: Caller,
        lookup: Lookup,
        budget: Budget,
        opening: Callable[[], Awaitable[Opening]],
        stop: Callable[[str], None],
    ) -> None:
        self.execution_id = ""
        """Empty until the first event."""
        self.request_id = ""
        self.last_sequence = 0
        self.finished: Execution | None = None
        self._caller = caller
        self._lookup = lookup
        self._budget = budget
        self._prepare = opening
        self._stop = stop
        self._opening = Opening()
        self._missed = 0
        self._greeted = False
        self._found: Execution | None = None
        self._tries = Tries(caller.policy)
        self._restarts = Tries(caller.policy)
        self._events = self._unbroken()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the stream; see the class for what becomes of the execution."""
        await self._events.aclose()

    async def result(self, *, raise_on_failure: bool = True) -> Result:
        """Reads to the end. Raises what the call raised, or the failed tool's error unless that is not wanted."""
        async for _ in self:
            pass
        if self.finished is None:
            message = f"the stream of execution {self.execution_id or '(not started)'} was closed before it ended"
            raise RuntimeError(message)
        result = Result(self.finished)
        return result.or_raise() if raise_on_failure else result

    async def _unbroken(self) -> AsyncGenerator[Event, None]:
        self._opening = await self._prepare()
        self.execution_id, self.last_sequence = self._opening.execution_id, self._opening.after_sequence
        if self._opening.call is not None:
            self.request_id = self._opening.call.request_id
        try:
            while self.finished is None:
                if self._found is not None:
                    self.finished = self._found
                    yield wire.finished(self._found)
                    return
                try:
                    async with aclosing(self._attached()) as events:
                        async for event in events:
                            yield event
                except ToolwrightError as error:
                    if self.finished is None and not await self._resumes(error):
                        doubt = self.execution_id or self._restarts.doubt
                        raise after_doubt(error, self.execution_id) if doubt else error from error.__cause__
        except (asyncio.CancelledError, GeneratorExit):
            if self.finished is None and self._opening.stop_when_closed:
                self._stop(self.request_id)
            raise

    async def _attached(self) -> AsyncGenerator[Event, None]:
        """What one rpc brings. One that ends after showing an ended execution brought its outcome, too."""
        ended: Execution | None = None
        async with aclosing(self._messages()) as messages:
            async for raw in messages:
                event = wire.event(raw)
                self._tries = Tries(self._caller.policy)
                self.execution_id = raw.execution_id or self.execution_id
                if isinstance(event, Snapshot):
                    ended = event.execution if event.execution.state.terminal else None
                    if not self._greeted or self._missed:
                        yield replace(event, missed_events=self._missed)
                    self._greeted, self._missed = True, 0
                elif event is not None:
                    self.last_sequence = max(self.last_sequence, event.sequence)
                    if isinstance(event, Finished):
                        if await self._begins_anew(event.execution):
                            return
                        self.finished = event.execution
                    yield event
        if self.finished is None and ended is not None:
            self.finished = ended
            yield wire.finished(ended)
        elif self.finished is None:
            raise self._caller.lost("the stream ended without an outcome", self.request_id)

    async def _messages(self) -> AsyncGenerator[common_pb2.ExecutionEvent, None]:
        connection = self._caller.connection.open()
        send = partial(self._caller.stream, request_id=self.request_id, metadata=self._opening.metadata)
        if self.execution_id:
            request = tool_execution_pb2.WaitExecutionRequest(
                execution_id=self.execution_id, after_sequence=self.last_sequence
            )
            answers = send(connection.executions.WaitExecution, request, self._budget)
        else:
            call = tool_execution_pb2.ExecuteStreamRequest(call=self._opening.call)
            answers = send(connection.executions.ExecuteStream, call, self._budget)
        async with aclosing(answers):
            async for answer in answers:
                yield answer.event

    async def _resumes(self, error: ToolwrightError) -> bool:
        """Prepares the next rpc and answers True, or answers False when there must not or cannot be one."""
        if self._caller.connection.closed:
            return False
        if not self.execution_id:
            return await self._starts_again(error)
        match error:
            case Unavailable() | LimitReached():
                return await self._caller.pause(self._tries.delay(error), self._budget) or self._gone(error)
            case SlowConsumer():
                return await self._caller.pause(self._tries.next_delay(error), self._budget)
            case DeadlineExceeded():
                # A call's own deadline is the server's to tell, with what became of it.
                return self._budget.unlimited
            case EventsExpired() if error.first_sequence > self.last_sequence + 1:
                self._missed += error.first_sequence - 1 - self.last_sequence
                self.last_sequence = error.first_sequence - 1
                return True
            case ExecutionNotFound():
                return await self._forgotten(error)
            case _:
                return False

    async def _starts_again(self, error: ToolwrightError) -> bool:
        """After a call of which nothing was heard: the same again, which joins it where it runs."""
        if await self._caller.pause(self._restarts.delay(error), self._budget):
            return True
        doubt = self._restarts.doubt or error.outcome == UNKNOWN
        if isinstance(error, ConnectionLost | NotConnected) and doubt and not self._is_repeatable():
            raise outcome_unknown(error, "asking for it again failed") from error
        return False

    async def _begins_anew(self, ended: Execution) -> bool:
        """Whether the call is made once more, because its server died and doing it again does no harm."""
        broke_off = ended.state is State.FAILED and ended.error is not None and ended.error.reason == "INTERNAL"
        if self._opening.call is None or not broke_off:
            return False
        delay = self._restarts.delay(error_of_execution(ended))
        if not await self._caller.pause(delay, self._budget):
            return False
        self._forget()
        return True

    def _gone(self, error: ToolwrightError) -> bool:
        """After the last try to attach again: a side effect is in doubt, whatever this try says of itself."""
        if self._opening.call is not None and not self._is_repeatable():
            raise outcome_unknown(error, f"attaching to execution {self.execution_id} again failed") from error
        return False

    async def _forgotten(self, error: ToolwrightError) -> bool:
        """Events are kept for a shorter time than outcomes; and a server without a record took both with it."""
        with suppress(ExecutionNotFound):
            self._found = await self._lookup.by_id(self.execution_id, self._budget)
            return self._found.state.terminal
        if self._opening.call is None:
            return False
        if not self._is_repeatable():
            # Who has forgotten the execution has forgotten its request id, too.
            raise outcome_unknown(error, f"the server no longer knows execution {self.execution_id}") from error
        if not await self._caller.pause(self._restarts.next_delay(error), self._budget):
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        """Begin from the first event of another execution."""
        self.execution_id, self.last_sequence, self._greeted = "", 0, False

    def _is_repeatable(self) -> bool:
        call = self._opening.call
        return call is not None and self._lookup.is_repeatable(call.tool, call.tool_version)
