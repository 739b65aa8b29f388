"""Rows, invocations and flights for the tests of the engine, with parts as real as those of a server."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import orjson

from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.model import Effect, Tool
from toolwright_server.execution import canonical
from toolwright_server.execution.deadline import Deadline, DeadlineSource
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import Execution, Invocation
from toolwright_server.identity import ANONYMOUS, Caller
from toolwright_server.limits.limiter import Admission, Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rules import CostLimits, Rules, Tier
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.telemetry import CallTrace, Metrics

LIMIT = 4 << 20
UNTRACED = CallTrace("0" * 31 + "1", "0" * 15 + "1", 0, None, None)


def row(**facts: Any) -> Execution:
    """An execution that was just accepted."""
    defaults: dict[str, Any] = {
        "execution_id": "0190-row",
        "caller": ANONYMOUS,
        "tool": "tests.work",
        "tool_version": "1",
        "digest": b"digest",
        "server_id": "server",
        "epoch": 1,
        "trace_id": UNTRACED.trace_id,
        "create_time": 1_000.0,
        "deadline_time": 1_030.0,
        "deadline_source": DeadlineSource.SERVER,
        "as_json": True,
        "task_id": "0190-row",
        "parent_execution_id": "",
        "request_id": "",
        "session_id": "",
        "agent_id": "",
        "labels": {},
        "arguments_bytes": 2,
    }
    return Execution(**{**defaults, **facts})


def invocation(name: str, arguments: Mapping[str, Any] | None = None, **facts: Any) -> Invocation:
    """A call of `name` that has just arrived; `facts` are the Invocation's other fields."""
    checked, encoded = canonical.parse(orjson.dumps(arguments or {}).decode(), LIMIT)
    defaults: dict[str, Any] = {"caller": ANONYMOUS, "tool_version": "", "as_json": True, "trace": UNTRACED}
    defaults["received"] = time.monotonic()
    return Invocation(tool=name, arguments=checked, canonical=encoded, **{**defaults, **facts})


def declared(effect: Effect = Effect.SIDE_EFFECT, **options: Any) -> Tool:
    """A tool that does nothing."""

    async def work() -> None:
        pass

    found = declared_tool(tool("tests.work", effect=effect, **options)(work))
    assert found is not None
    return found


def admission() -> Admission:
    """Of a call that no rule limits."""
    rules = Rules((), {tier: CostLimits(0, 0) for tier in Tier})
    let_in = Limiter(MemoryLimitStore(), Rulebook(rules), Line(0), Metrics()).admit_now((), "token")
    assert let_in is not None
    return let_in


def flight(
    effect: Effect = Effect.SIDE_EFFECT,
    *,
    source: DeadlineSource = DeadlineSource.TOOL,
    output_limit: int = LIMIT,
    bounds: LogBounds,
) -> Flight:
    """A flight of a tool with that effect, 30 s before its deadline. Needs a running loop."""
    return Flight(
        loop=asyncio.get_running_loop(),
        invocation=invocation("tests.work"),
        tool=declared(effect),
        execution=row(),
        deadline=Deadline.shortest(time.monotonic(), (30.0, source)),
        admission=admission(),
        logs=MemoryEventLogs(bounds),
        output_limit=output_limit,
        trace=UNTRACED,
    )


def somebody(tenant: str = "default", principal: str = "anonymous", user: str = "anonymous") -> Caller:
    """A caller."""
    return Caller(tenant, principal, user)
