"""Settles unknown outcomes: by asking the tool's own look-up function, or by what an operator has found out.

A look-up never repeats the call: it only says whether it happened. Asked after recovery, and by ReconcileExecution.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from toolwright_server.catalog.look_up import Found, LookedUp, NotDone, StillUnknown
from toolwright_server.catalog.model import Effect, LookUp, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.errors import Failure, Reason, ToolwrightError, invalid
from toolwright_server.execution.charging import reconciled
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.outcome import NOT_STARTED
from toolwright_server.execution.recovery.verdict import Verdict, VerdictStore
from toolwright_server.identity import Caller
from toolwright_server.records.audit.model import Fact, Kind

_logger = logging.getLogger(__name__)

# Look-ups that run at once; synchronous ones in threads, which cannot be stopped.
_AT_ONCE: Final = 4
# Times are limited by the tool's own timeout, or this.
_DEFAULT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Declared:
    """What an operator found out: whether it happened, with which result (JSON text; None: not known), and how."""

    succeeded: bool
    result: bytes | None = None
    note: str = ""


class Reconciler:
    """See the module."""

    def __init__(self, store: VerdictStore, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._catalog = catalog
        self._now = now
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look-up")
        self._slots = asyncio.Semaphore(_AT_ONCE)
        # Of those that are asked for by themselves, so that a person who asks waits behind few.
        self._own_slots = asyncio.Semaphore(_AT_ONCE)
        # By the execution that is asked for.
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.settled = 0

    def soon(self, executions: Sequence[Execution]) -> None:
        """Ask for those whose tools have a look-up, in tasks of their own, unless that is being done."""
        for execution_id, tool in ((each.execution_id, self._tool(each)) for each in executions):
            if tool is not None and tool.look_up is not None and execution_id not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._quietly(execution_id))
                self._tasks[execution_id] = task
                task.add_done_callback(lambda _, execution_id=execution_id: self._tasks.pop(execution_id))

    async def done(self) -> None:
        """Wait until everything that was asked soon has been."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    async def close(self) -> None:
        """Stop asking. A synchronous look-up that is stuck ends with the process."""
        for task in self._tasks.values():
            task.cancel()
        await self.done()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def look_up(self, execution_id: str, actor: Caller | None = None) -> Execution:
        """Ask the tool what became of an execution; it as it is afterwards, still unknown if the tool cannot say.

        Raises RESOURCE_NOT_FOUND, INVALID_STATE (its outcome is known, or its tool has no look-up) and
        UPSTREAM_UNAVAILABLE (the look-up failed).
        """
        execution = await self._unknown(execution_id)
        tool = self._tool(execution)
        if tool is None or tool.look_up is None:
            what = "is not among this server's tools" if tool is None else "has no look-up function"
            raise ToolwrightError(
                Reason.INVALID_STATE,
                f"{execution.tool} {what}: find out what became of {execution_id} and say it",
                metadata={"state": execution.state.name},
            )
        async with self._slots:
            answer = await self._asked(tool, tool.look_up, execution)
        if isinstance(answer, StillUnknown):
            return execution
        facts: dict[str, Fact] = {"by": "look_up"}
        if isinstance(answer, NotDone):
            if await self._may_be_done_elsewhere(tool, execution):
                return execution
            return await self._failed(execution_id, actor, facts)
        return await self._succeeded(execution_id, tool, _encoded(tool, answer.value), actor, facts)

    async def declare(self, execution_id: str, actor: Caller, found: Declared) -> Execution:
        """Settle it as an operator says.

        Raises RESOURCE_NOT_FOUND, INVALID_STATE and INVALID_ARGUMENTS (a result that the tool could not have returned).
        """
        execution = await self._unknown(execution_id)
        facts: dict[str, Fact] = {"by": "operator", "note": found.note}
        if not found.succeeded:
            return await self._failed(execution_id, actor, facts)
        tool = self._tool(execution)
        if found.result is not None:
            _check_declared(tool, found.result)
        return await self._succeeded(execution_id, tool, found.result, actor, facts)

    async def _succeeded(
        self, execution_id: str, tool: Tool | None, result: bytes | None, actor: Caller | None, facts: dict[str, Fact]
    ) -> Execution:
        kept = None if tool is None else tool.kept_result(result)

        def change(row: Execution) -> None:
            row.move(State.SUCCEEDED)
            reconciled(row)
            row.result, row.failure = kept, None

        return await self._decided(execution_id, change, actor, facts, frees=False)

    async def _failed(self, execution_id: str, actor: Caller | None, facts: dict[str, Fact]) -> Execution:
        def change(row: Execution) -> None:
            row.move(State.FAILED)
            row.failure = _not_done(row)

        row = await self._decided(execution_id, change, actor, facts, frees=True)
        if row.parent_execution_id:
            above = await self._store.ended((row.parent_execution_id,))
            # Of one in whose place it was called, the look-up may decide now.
            self.soon([each for each in above if each.state is State.OUTCOME_UNKNOWN])
        return row

    async def _may_be_done_elsewhere(self, tool: Tool, execution: Execution) -> bool:
        """Whether the tool that is called in its place may have done it: of that one its look-up knows nothing."""
        if tool.fallback is None or not tool.fallback.tool:
            return False
        return any(
            step.tool == tool.fallback.tool and step.effect is not Effect.READ_ONLY and not _is_not_done(step)
            for step in await self._store.steps(execution)
        )

    async def _decided(
        self,
        execution_id: str,
        change: Callable[[Execution], None],
        actor: Caller | None,
        facts: dict[str, Fact],
        *,
        frees: bool,
    ) -> Execution:
        decided: list[bool] = []

        def judge(row: Execution) -> Verdict | None:
            decided.append(row.state is State.OUTCOME_UNKNOWN)
            if not decided[-1]:
                return None
            change(row)
            return Verdict(row, Kind.RECONCILIATION, self._now(), frees=frees, actor=actor, facts=facts)

        row = await self._store.decide(execution_id, judge)
        if row is None:
            raise _absent(execution_id)
        if not decided[-1]:
            raise _known(row)
        self.settled += 1
        _logger.info("%s is settled: %s (%s)", execution_id, row.state.name, facts["by"])
        return row

    async def _unknown(self, execution_id: str) -> Execution:
        found = await self._store.ended((execution_id,))
        if not found:
            raise _absent(execution_id)
        if found[0].state is not State.OUTCOME_UNKNOWN:
            raise _known(found[0])
        return found[0]

    async def _quietly(self, execution_id: str) -> None:
        try:
            async with self._own_slots:
                row = await self.look_up(execution_id)
        except ToolwrightError as error:
            if error.failure.reason is Reason.INVALID_STATE:
                _logger.info("%s needs no look-up any more: %s", execution_id, error)
            else:
                _logger.warning("%s stays unknown: %s", execution_id, error)
        else:
            if row.state is State.OUTCOME_UNKNOWN:
                _logger.warning("%s stays unknown: %s cannot say yet what became of it", execution_id, row.tool)

    async def _asked(self, tool: Tool, look_up: LookUp, execution: Execution) -> LookedUp:
        seconds = tool.timeout_seconds or _DEFAULT_SECONDS
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer(look_up, execution)
        except TimeoutError:
            raise _unanswered(tool, f"did not answer within {seconds:g} s") from None
        except Exception as error:
            # Its text may hold what the tool was called with: for the log alone, and not for tools with secrets.
            _logger.warning("the look-up of %s failed", tool.name, exc_info=None if tool.has_secrets else error)
            raise _unanswered(tool, f"raised {type(error).__name__}") from None
        if not isinstance(answer, Found | NotDone | StillUnknown):
            raise _unanswered(tool, "answered neither Found nor NotDone nor StillUnknown")
        return answer

    async def _answer(self, look_up: LookUp, execution: Execution) -> Any:
        arguments: dict[str, Any] | None = None if execution.arguments is None else orjson.loads(execution.arguments)
        if inspect.iscoroutinefunction(look_up):
            return await look_up(arguments, execution)
        loop = asyncio.get_running_loop()
        answer: Any = await loop.run_in_executor(self._threads, look_up, arguments, execution)
        return await answer if inspect.isawaitable(answer) else answer

    def _tool(self, execution: Execution) -> Tool | None:
        try:
            return self._catalog.resolve(execution.tool, execution.tool_version)
        except ToolwrightError:
            return None


def _encoded(tool: Tool, value: Any) -> bytes:
    try:
        result = orjson.dumps(value)
    except TypeError:
        raise _unanswered(tool, "found a value that has no JSON form") from None
    if tool.output_schema is not None and not tool.output_schema.accepts(orjson.loads(result)):
        raise _unanswered(tool, "found a value that breaks the schema of the tool's result")
    return result


def _check_declared(tool: Tool | None, result: bytes) -> None:
    if tool is None:
        raise invalid("value_json", "the tool is not among this server's tools, so its result cannot be checked")
    try:
        value = orjson.loads(result)
    except orjson.JSONDecodeError:
        raise invalid("value_json", "is no JSON") from None
    if tool.output_schema is not None and not tool.output_schema.accepts(value):
        raise invalid("value_json", "breaks the schema of the tool's result")


def _is_not_done(row: Execution) -> bool:
    return row.ended and row.failure is not None and row.failure.metadata.get("outcome") == NOT_STARTED


def _not_done(row: Execution) -> Failure:
    """The failure with which it ended, now that it is known that nothing has happened."""
    failure = row.failure or Failure(Reason.OUTCOME_UNKNOWN, f"{row.tool} gave no answer")
    return replace(
        failure,
        reason=Reason.UPSTREAM_UNAVAILABLE if failure.reason is Reason.OUTCOME_UNKNOWN else failure.reason,
        user_message="This was not done.",
        suggested_action="Make the call again if it is still wanted.",
        retryable=True,
        metadata={**failure.metadata, "outcome": NOT_STARTED, "reconciled": "not_done"},
    )


def _unanswered(tool: Tool, what: str) -> ToolwrightError:
    return ToolwrightError(Reason.UPSTREAM_UNAVAILABLE, f"the look-up of {tool.name} {what}", retry_delay=1.0)


def _known(row: Execution) -> ToolwrightError:
    return ToolwrightError(
        Reason.INVALID_STATE,
        f"the outcome of {row.execution_id} is known: {row.state.name}",
        metadata={"state": row.state.name},
    )


def _absent(execution_id: str) -> ToolwrightError:
    return ToolwrightError(Reason.RESOURCE_NOT_FOUND, f"there is no execution {execution_id[:128]!r} that has ended")
