"""Calls made by tools: children of the execution in which they are a step, walking the same corridor."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from toolwright_server.catalog.context import ToolCallError
from toolwright_server.errors import ToolwrightError
from toolwright_server.execution import canonical
from toolwright_server.execution.elsewhere.distant import Distant
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Invocation, State

ARGUMENTS_LIMIT = 4 << 20


Execute = Callable[[Invocation], Awaitable[Flight | Distant]]


async def call_nested(execute: Execute, parent: Flight, tool: str, arguments: Mapping[str, Any]) -> Any:
    """Run `tool` as a child of `parent` and return its value.

    Raises ToolCallError when it was refused or failed. Cancelled, it stops the child.
    """
    try:
        invocation = step(parent, tool, arguments)
    except ToolwrightError as error:
        raise _refused(error) from None
    try:
        child = await begun(execute, invocation)
    except ToolwrightError as error:
        raise _refused(error) from None
    await ended(parent, child)
    return orjson.loads(_value(child))


async def begun(execute: Execute, invocation: Invocation) -> Flight:
    """The child of a step that was made by `step`. Raises ToolwrightError when it is refused: nothing has happened."""
    child = await execute(invocation)
    assert isinstance(child, Flight), "a nested call has no request id"
    return child


async def ended(parent: Flight, child: Flight) -> None:
    """Wait for a child. Cancelled, it stops it."""
    parent.children.add(child)
    if parent.finished:
        # The tool goes on after its execution was settled: its children must not.
        child.stop(Stop.PARENT_ENDED)
    try:
        await child.ended(None)
    except asyncio.CancelledError:
        child.stop(Stop.PARENT_ENDED)
        raise
    finally:
        parent.children.discard(child)


def step(parent: Flight, tool: str, arguments: Mapping[str, Any]) -> Invocation:
    """A call that `parent` makes. Raises ToolwrightError for arguments that are no JSON."""
    above = parent.invocation
    _, encoded = canonical.checked(dict(arguments), "arguments", ARGUMENTS_LIMIT)
    return Invocation(
        caller=above.caller,
        tool=tool,
        tool_version="",
        # Read back: JSON and nothing else, and the child's own.
        arguments=orjson.loads(encoded),
        canonical=encoded,
        as_json=True,
        trace=parent.trace,
        received=time.monotonic(),
        session_id=above.session_id,
        agent_id=above.agent_id,
        task_id=parent.execution.task_id,
        parent_execution_id=parent.execution.execution_id,
        inherited=parent.deadline,
        depth=above.depth + 1,
    )


def _refused(error: ToolwrightError) -> ToolCallError:
    failure = error.failure
    return ToolCallError(failure.reason.name, failure.message, retryable=failure.may_retry(), metadata=failure.metadata)


def _value(child: Flight) -> bytes:
    execution = child.execution
    if execution.state is State.SUCCEEDED:
        assert child.answer is not None
        return child.answer
    failure = execution.failure
    assert failure is not None
    raise ToolCallError(failure.reason.name, failure.message, retryable=failure.may_retry(), metadata=failure.metadata)
