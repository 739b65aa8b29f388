"""Runs one call, from what was asked to what became of it. Read it from top to bottom: each step calls the next.

    execute → _entered → _resolved → _recalled → _admitted → _intended (→ _once) → _attempted → _settled

Knows neither gRPC nor where tools run or records are kept.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from toolwright_server.artifacts.keeper import ArtifactKeeper
from toolwright_server.catalog.model import Effect, Record, Runs, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.errors import Failure, Reason, ToolwrightError, crowded
from toolwright_server.execution.admission import Admissions, kept
from toolwright_server.execution.aftermath import Aftermath
from toolwright_server.execution.attempt import Answer, attempt, work_of
from toolwright_server.execution.attendance import naming
from toolwright_server.execution.backend import Backend, Work
from toolwright_server.execution.circuits.breaker import Breaker
from toolwright_server.execution.deadline import Deadline
from toolwright_server.execution.elsewhere.distant import Distant
from toolwright_server.execution.elsewhere.joining import Joining
from toolwright_server.execution.events import EventLogs
from toolwright_server.execution.falling_back import instead, tried
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.ids import Ids
from toolwright_server.execution.intake import ENDING, ExecutorOptions, in_time, new_row, resolve
from toolwright_server.execution.intake import deadline as allowed_time
from toolwright_server.execution.large_results import LargeResults
from toolwright_server.execution.model import CacheMode, Execution, Invocation, State, Stopped
from toolwright_server.execution.nested import call_nested
from toolwright_server.execution.observing import observe
from toolwright_server.execution.once import Repeated, repeated
from toolwright_server.execution.outcome import NOT_STARTED, Outcome, judge
from toolwright_server.execution.recall.engine import Recall, Results
from toolwright_server.execution.recall.joining import adopted, joined
from toolwright_server.execution.recall.shared import Seat, Told
from toolwright_server.execution.retrying import Chances, attempts
from toolwright_server.execution.store import ExecutionStore, RecordFailed
from toolwright_server.execution.walks import Walks
from toolwright_server.limits.limiter import Admission, Limiter
from toolwright_server.telemetry import Metrics, Tracing

_logger = logging.getLogger(__name__)

# The rest of its corridor, from the moment at which it exists.
Walk = Callable[[Flight], Coroutine[Any, Any, None]]


class Executor:
    """See the module."""

    def __init__(
        self,
        *,
        options: ExecutorOptions,
        catalog: Catalog,
        backends: Mapping[Runs, Backend],
        store: ExecutionStore,
        limiter: Limiter,
        results: Results,
        breaker: Breaker,
        joining: Joining | None = None,
        logs: EventLogs,
        tracing: Tracing,
        metrics: Metrics,
        ids: Callable[[], str] | None = None,
        chances: Chances | None = None,
        artifacts: ArtifactKeeper | None = None,
    ) -> None:
        self._options = options
        self._catalog = catalog
        self._backends = backends
        self._store = store
        self._logs = logs
        self._tracing = tracing
        self._metrics = metrics
        self._ids = ids or Ids()
        self._chances = chances or Chances()
        self._large = LargeResults(artifacts, options.inline_limit)
        self._breaker = breaker
        self._admissions = Admissions(limiter, store)
        self._aftermath = Aftermath(store, metrics)
        self._joining = joining
        self._flights: dict[str, Flight] = {}
        self._recall = Recall(results, self._flights, metrics.cache)
        # Calls that were let in and have no flight yet.
        self._entering = 0
        self._stopping = False
        self._walks = Walks(self._broke_off)

    async def execute(self, invocation: Invocation) -> Flight | Distant:
        """Check and record a call, and let it run in a task of its own; `attendance.outlast` waits for its end.

        Raises ToolwrightError when the call is refused: then nothing happens.
        """
        if invocation.detach:
            # Its caller may leave while the intent is being recorded: it goes on.
            return await asyncio.shield(self._walks.begin(self._entered(invocation)))
        return await self._entered(invocation)

    async def _entered(self, invocation: Invocation) -> Flight | Distant:
        """Whether one more may run: a call that nobody waits for and a nested one count like any other."""
        if self._stopping:
            raise ToolwrightError.of(ENDING)
        limit = self._options.running_limit
        if len(self._flights) + self._entering >= limit:
            refusal = crowded(limit, f"the server runs {limit} executions at once, and that many are running")
            raise ToolwrightError.of(refusal)
        self._entering += 1
        try:
            return await self._resolved(invocation)
        finally:
            self._entering -= 1

    async def _resolved(self, invocation: Invocation) -> Flight | Distant:
        """Which tool, whether the arguments are right, and how long it may take."""
        tool, deadline = resolve(self._catalog, self._options, invocation)
        if tool.cache is None or invocation.cache_mode is CacheMode.BYPASS:
            return await self._admitted(invocation, tool, deadline, self._attempted)
        return await self._recalled(invocation, tool, deadline)

    async def _recalled(self, invocation: Invocation, tool: Tool, deadline: Deadline) -> Flight | Distant:
        """A kept answer, or that of the same call in flight: no limit is asked, and nothing is paid."""
        found = await self._recall.find(invocation, tool, deadline)
        if found is None:
            return await self._admitted(invocation, tool, deadline, self._attempted)
        if isinstance(found, Told):
            return await self._let_through(invocation, tool, deadline, partial(self._answered, found))
        try:
            if found.leads or await in_time(found.begun(), deadline, tool, math.inf):
                return await self._admitted(invocation, tool, deadline, partial(self._leading, found))
            return await self._let_through(invocation, tool, deadline, partial(self._following, found))
        finally:
            if not found.is_held:
                found.leave()

    async def _let_through(
        self, invocation: Invocation, tool: Tool, deadline: Deadline, walk: Walk
    ) -> Flight | Distant:
        execution = new_row(self._ids(), self._options, invocation, tool, deadline)
        admission = self._admissions.free(execution)
        return await self._intended(invocation, tool, deadline, execution, admission, walk=walk)

    async def _admitted(self, invocation: Invocation, tool: Tool, deadline: Deadline, walk: Walk) -> Flight | Distant:
        """Its limits let the caller in, at once or when there is a place. What is refused later costs nothing."""
        execution = new_row(self._ids(), self._options, invocation, tool, deadline)
        admission = self._admissions.at_once(invocation, tool, execution)
        if admission is None:
            admission = await self._admissions.admitted(invocation, tool, execution, deadline)
            if isinstance(admission, Execution):
                return await self._once(invocation, tool, deadline, execution, admission)
        try:
            return await self._intended(invocation, tool, deadline, execution, admission, walk=walk)
        except BaseException:
            admission.give_back()
            raise

    async def _intended(
        self,
        invocation: Invocation,
        tool: Tool,
        deadline: Deadline,
        execution: Execution,
        admission: Admission,
        *,
        walk: Walk,
    ) -> Flight | Distant:
        """One commit before anything happens, which claims the request id; not waited for where no harm can be done."""
        if admission.warnings:
            execution.warnings = kept(admission.warnings, execution.create_time)
        first = tool.effect is Effect.SIDE_EFFECT or (invocation.in_place_of and tool.effect is not Effect.READ_ONLY)
        if first or invocation.request_id or execution.hold_micros:
            holder = await in_time(self._store.add(execution), deadline, tool, self._options.storage_timeout)
            if holder is not None:
                admission.give_back()
                return await self._once(invocation, tool, deadline, execution, holder)
        else:
            await self._store.add(execution, awaited=False)
        flight = Flight(
            loop=self._walks.loop,
            invocation=invocation,
            tool=tool,
            execution=execution,
            deadline=deadline,
            admission=admission,
            logs=self._logs,
            output_limit=self._options.output_limit,
            trace=self._tracing.tool_call(invocation.trace, tool.name, execution.execution_id),
        )
        if execution.warnings:
            flight.warn()
        self._flights[execution.execution_id] = flight
        self._walks.walk(flight, walk(flight))
        return flight

    async def _once(
        self, invocation: Invocation, tool: Tool, deadline: Deadline, asked: Execution, holder: Execution
    ) -> Flight | Distant:
        """The request id belongs to an earlier call: its answer again, or joining it while it runs."""
        flight = self._flights.get(holder.execution_id)
        found = repeated(holder, asked, is_settled=flight is None)
        if flight is None or found is Repeated.REPLAY:
            return Distant(holder, self._joining)
        if flight.given_up:
            # Its caller lost the connection and is back: it ends, and gives the request id back.
            await in_time(flight.ended(None), deadline, tool, math.inf)
            return await self._admitted(invocation, tool, deadline, self._attempted)
        flight.join(invocation)
        return flight

    def _leading(self, seat: Seat, flight: Flight) -> Coroutine[Any, Any, None]:
        """Others get what this one comes to."""
        seat.lead(flight)
        return self._attempted(flight)

    def _following(self, seat: Seat, flight: Flight) -> Coroutine[Any, Any, None]:
        """It gets what another one comes to."""
        seat.is_held = True
        return self._joined(seat, flight)

    async def _joined(self, seat: Seat, flight: Flight) -> None:
        """Another execution calls the tool for it, until its own time is up or its own caller leaves."""
        task = flight.task
        run = partial(joined, flight, seat, partial(self._stood_in, seat, flight))
        try:
            answer = await attempt(flight, self._work(flight), run, self._options.stop_grace, self._overrun)
        finally:
            seat.leave()
        if flight.task is task:
            await self._settled(flight, judge(flight, answer), Stopped.UNSPECIFIED)

    async def _stood_in(self, seat: Seat, other: Flight, step: Invocation) -> Flight | Distant:
        """What it had joined ended for reasons of its own: it makes the call for all who wait, as a step of its own."""
        if self._stopping:
            raise ToolwrightError.of(ENDING)
        limit = allowed_time(self._options, step, other.tool)
        walk = partial(self._lent, other) if seat.shared.is_apart else partial(self._leading, seat)
        return await self._admitted(step, other.tool, limit, walk)

    def _lent(self, other: Flight, flight: Flight) -> Coroutine[Any, Any, None]:
        """What its tool writes belongs to the execution for which it is called."""
        flight.lender = other
        return self._attempted(flight)

    async def _answered(self, told: Told, flight: Flight) -> None:
        """A kept answer is its own."""
        flight.answered = True
        await self._settled(flight, Outcome(State.SUCCEEDED, adopted(flight.execution, told)), Stopped.UNSPECIFIED)

    async def _attempted(self, flight: Flight) -> None:
        """The backend runs the tool until it answers, or until it must stop."""
        task = flight.task
        backend, grace = self._backends[flight.tool.runs], self._options.stop_grace
        run = partial(attempts, flight, self._breaker.before(backend, flight), self._chances)
        if flight.tool.fallback is not None:
            run = partial(tried, flight, run, self.execute)
        answer = await attempt(flight, self._work(flight), run, grace, self._overrun)
        if flight.task is task:
            await self._settled(flight, instead(flight, judge(flight, answer)), Stopped.YES)

    def _overrun(self, flight: Flight) -> None:
        """The tool was told to stop and does not: the answer leaves without it, and its task is watched to its end."""
        assert flight.task is not None
        if flight.overran is not None:
            flight.overran()
        stopped = self._backends[flight.tool.runs].unconfirmed
        self._walks.give_up(flight.task)
        self._aftermath.watch(flight, flight.task, stopped)
        self._walks.walk(flight, self._settled(flight, instead(flight, judge(flight, Answer())), stopped))

    async def _settled(self, flight: Flight, outcome: Outcome, stopped: Stopped) -> None:
        """What became of it is in the record before anybody hears of it."""
        execution = flight.execution
        end = flight.settle_times(time.monotonic())
        execution.stopped = stopped
        value = flight.whole = outcome.result
        if self._large.is_large(flight, value):
            value = await self._large.inline_part(flight, outcome, end)
        flight.answer = value
        execution.result = flight.tool.kept_result(value)
        if outcome.failure is not None:
            execution.failure = naming(outcome.failure, execution.execution_id)
        flight.move(outcome.state, end)
        try:
            await self._store.settle(execution, awaited=flight.tool.record is not Record.LAZY)
        except RecordFailed as error:
            # An answer that no record holds is none.
            flight.lose(error.failure)
        self._large.recorded(flight)
        if outcome.failure is not None and outcome.failure.metadata.get("outcome") == NOT_STARTED:
            flight.admission.give_back()
        observe(flight, self._metrics, self._tracing)
        del self._flights[execution.execution_id]
        flight.land()

    async def _broke_off(self, flight: Flight, error: BaseException) -> None:
        """A defect of ours kept the corridor from its end."""
        execution = flight.execution
        _logger.error("the corridor of %s broke off", execution.execution_id, exc_info=error)
        execution.state = State.FAILED if flight.started_at is None else State.OUTCOME_UNKNOWN
        execution.end_time = time.time()
        execution.failure = naming(
            Failure(Reason.INTERNAL, "the server failed while it ran the tool", metadata={"outcome": "unknown"}),
            execution.execution_id,
        )
        try:
            await self._store.settle(execution)
        except Exception:
            _logger.exception("what became of %s could not be recorded", execution.execution_id)
        self._large.recorded(flight)
        self._flights.pop(execution.execution_id, None)
        flight.land()

    def attend(self, execution: Execution) -> Flight | Distant:
        """What to wait for who wants to know how the execution ends."""
        return self._flights.get(execution.execution_id) or Distant(execution, self._joining)

    def stop(self, execution_id: str, reason: Stop) -> bool:
        """Tell an execution to stop; False when it does not run here."""
        flight = self._flights.get(execution_id)
        if flight is not None:
            flight.stop(reason)
        return flight is not None

    @property
    def running(self) -> int:
        """How many executions have not ended."""
        return len(self._flights)

    async def settled(self) -> None:
        """Wait until every execution that runs now has ended and was settled."""
        while self._flights:
            for flight in tuple(self._flights.values()):
                await flight.ended(None)

    async def stop_all(self, reason: Stop) -> None:
        """Tell every running execution to stop, let no other begin (a batch would), and wait until all are settled."""
        self._stopping = True
        for flight in tuple(self._flights.values()):
            flight.stop(reason)
        await self.settled()

    def _work(self, flight: Flight) -> Work:
        return work_of(
            flight,
            call=partial(call_nested, self.execute, flight),
            headers=partial(self._tracing.headers, flight.trace),
            artifacts=partial(self._large.drafts, flight),
            result_limit_bytes=self._options.result_limit,
        )
