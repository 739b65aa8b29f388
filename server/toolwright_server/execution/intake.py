"""What is decided about a call before it exists: which tool, whether the arguments are right, how long it may take."""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from toolwright_server.catalog.model import Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.terms import agree
from toolwright_server.errors import Failure, Reason, ToolwrightError, Violation
from toolwright_server.execution import canonical
from toolwright_server.execution.deadline import Deadline, DeadlineSource
from toolwright_server.execution.model import Execution, Invocation

T = TypeVar("T")

# What runs was told to stop: nothing is begun after it.
ENDING: Final = Failure(
    Reason.SERVER_DRAINING,
    "the server is shutting down and has stopped what it ran",
    retry_delay=0.2,
    metadata={"outcome": "not_started"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Who this server is, and the limits that hold for every call. Times in seconds, sizes in bytes."""

    server_id: str
    epoch: int
    default_timeout: float
    maximum_timeout: float
    category_timeouts: Mapping[str, float]
    stop_grace: float
    nesting_limit: int
    result_limit: int
    output_limit: int
    # What is larger is answered as an artifact.
    inline_limit: int = 1 << 20
    # The store gives up by itself after so long.
    storage_timeout: float = 5.0
    # Executions that have not ended.
    running_limit: int = 2_000


def resolve(catalog: Catalog, options: ExecutorOptions, invocation: Invocation) -> tuple[Tool, Deadline]:
    """The tool and the deadline.

    The invocation's arguments become those that the tool is given; its canonical form stays what was sent.
    Raises FORBIDDEN, TOOL_NOT_FOUND, TOOL_DISABLED, INVALID_ARGUMENTS, INVALID_STATE or CLIENT_DEADLINE.
    """
    if invocation.depth > options.nesting_limit:
        raise ToolwrightError(
            Reason.INVALID_STATE,
            f"calls are nested deeper than {options.nesting_limit}",
            metadata={"outcome": "not_started"},
        )
    visible = invocation.caller.may_call
    if not visible(invocation.tool):
        # Before the catalogue is asked: the answer does not say whether there is such a tool.
        raise out_of_scope(invocation.tool)
    tool = catalog.resolve(invocation.tool, invocation.tool_version, visible, invocation.caller.tenant)
    if tool.terms is not None:
        agree(tool, invocation.arguments)
    if not tool.input_schema.accepts(invocation.arguments):
        raise invalid_arguments(tool, tool.input_schema.violations(invocation.arguments))
    return tool, deadline(options, invocation, tool)


def out_of_scope(tool: str) -> ToolwrightError:
    """FORBIDDEN for a tool that the caller's credential may not call."""
    return ToolwrightError(
        Reason.FORBIDDEN,
        f"the credential may not call {tool[:128]!r}",
        metadata={"outcome": "not_started"},
    )


def invalid_arguments(tool: Tool, violations: Sequence[Violation]) -> ToolwrightError:
    """INVALID_ARGUMENTS naming every field that breaks the tool's schema."""
    first = violations[0]
    where = f" at {first.field}" if first.field else ""
    return ToolwrightError(
        Reason.INVALID_ARGUMENTS,
        f"the arguments break the schema of {tool.name}{where}: {first.description}",
        metadata={"outcome": "not_started"},
        violations=violations,
    )


def declared_timeout(options: ExecutorOptions, tool: Tool) -> tuple[float, DeadlineSource]:
    """Seconds that hold when the call names no timeout: the tool's own, or else its category's, or else the default."""
    if tool.timeout_seconds is not None:
        return tool.timeout_seconds, DeadlineSource.TOOL
    category = options.category_timeouts.get(tool.category)
    if category is not None:
        return category, DeadlineSource.CATEGORY
    return options.default_timeout, DeadlineSource.SERVER


def deadline(options: ExecutorOptions, invocation: Invocation, tool: Tool) -> Deadline:
    """The shortest of all limits. Raises CLIENT_DEADLINE when they leave no time."""
    inherited = invocation.inherited
    chosen = Deadline.shortest(
        invocation.received,
        # A detached execution outlives its caller.
        (None if invocation.detach else invocation.client_budget, DeadlineSource.CLIENT),
        (
            None if inherited is None else inherited.remaining(),
            DeadlineSource.CLIENT if inherited is None else inherited.source,
        ),
        (invocation.timeout, DeadlineSource.REQUEST),
        declared_timeout(options, tool),
        (options.maximum_timeout, DeadlineSource.SERVER),
    )
    if chosen.limit_seconds > 0:
        return chosen
    raise ToolwrightError(
        Reason.CLIENT_DEADLINE,
        f"the deadline leaves no time to run {tool.name}",
        metadata={"outcome": "not_started", "source": chosen.source.name},
    )


async def in_time(adding: Coroutine[Any, Any, T], deadline: Deadline, tool: Tool, longest: float) -> T:
    """What `adding` returns; it takes at most `longest` seconds by itself. Raises the deadline's error when that is
    sooner.
    """
    remaining = deadline.remaining()
    if remaining >= longest:
        return await adding
    try:
        async with asyncio.timeout(remaining):
            return await adding
    except TimeoutError:
        reason = Reason.CLIENT_DEADLINE if deadline.source is DeadlineSource.CLIENT else Reason.TOOL_TIMEOUT
        raise ToolwrightError(
            reason,
            f"the time of {tool.name} was used up before it could be started",
            metadata={"outcome": "not_started", "source": deadline.source.name},
        ) from None


def new_row(
    execution_id: str, options: ExecutorOptions, invocation: Invocation, tool: Tool, limit: Deadline
) -> Execution:
    """The execution's row, as it is recorded before the tool can be started."""
    now = time.time()
    arguments = given(invocation, tool)
    return Execution(
        execution_id=execution_id,
        caller=invocation.caller,
        tool=tool.name,
        tool_version=tool.version,
        digest=_digest(invocation, tool) if invocation.request_id else b"",
        server_id=options.server_id,
        epoch=options.epoch,
        trace_id=invocation.trace.trace_id,
        create_time=now,
        deadline_time=now + limit.remaining(),
        deadline_source=limit.source,
        as_json=invocation.as_json,
        task_id=invocation.task_id or execution_id,
        parent_execution_id=invocation.parent_execution_id,
        request_id=invocation.request_id,
        session_id=invocation.session_id,
        agent_id=invocation.agent_id,
        labels=invocation.labels,
        arguments_bytes=len(arguments),
        effect=tool.effect,
        category=tool.category,
        arguments=tool.kept_arguments(arguments),
    )


def _digest(invocation: Invocation, tool: Tool) -> bytes:
    """By which a repeated request is known. Nothing else needs it, and short arguments might be guessed from it.

    Of what was sent: who repeats a request gets its answer, also when the tenant's settings have changed.
    """
    return canonical.digest(tool.name, tool.version, invocation.caller.user, invocation.canonical)


def given(invocation: Invocation, tool: Tool) -> bytes:
    """What the tool is given, in canonical form."""
    if tool.terms is None or not tool.terms.completes:
        return invocation.canonical
    return canonical.encoded(invocation.arguments)
