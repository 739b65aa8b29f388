"""Asks the server about tools and executions: effects, and what became of a call whose answer was lost."""

import asyncio
from contextlib import suppress

import grpc

from toolwright.v1 import tool_catalog_pb2, tool_execution_pb2
from toolwright_client import wire
from toolwright_client.calls import Caller
from toolwright_client.deadline import Budget
from toolwright_client.errors import NotFound, OutcomeUnknown, ToolwrightError, Unavailable
from toolwright_client.model import UNKNOWN, Effect, Execution, Failure, Tool

LOOKUP_PAUSE_SECONDS = 0.5


class Lookup:
    """Asks, and remembers the effects of tools: one GetTool for each tool and version, when an effect is needed."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._effects: dict[tuple[str, str], Effect] = {}

    async def tool(self, name: str, version: str, budget: Budget) -> Tool:
        """One tool of the catalogue. Raises ToolNotFound."""
        request = tool_catalog_pb2.GetToolRequest(tool=name, tool_version=version)
        connection = self._caller.connection.open()
        answer = await self._caller.unary(connection.catalog.GetTool, request, budget)
        tool = wire.tool(answer.tool)
        self._effects[name, version] = tool.effect
        return tool

    async def effect(self, name: str, version: str, budget: Budget) -> Effect | None:
        """What the tool does to the world; absent: the server did not say in time."""
        if (name, version) not in self._effects:
            with suppress(ToolwrightError):
                await self.tool(name, version, budget)
        return self._effects.get((name, version))

    async def by_id(self, execution_id: str, budget: Budget) -> Execution:
        """One execution. Raises ExecutionNotFound."""
        request = tool_execution_pb2.GetExecutionRequest(execution_id=execution_id, value_json=True)
        return await self._get(request, budget)

    async def by_request(self, request_id: str, budget: Budget) -> Execution:
        """The newest execution that came of this request id. Raises ExecutionNotFound."""
        request = tool_execution_pb2.GetExecutionRequest(request_id=request_id, value_json=True)
        return await self._get(request, budget)

    async def _get(self, request: tool_execution_pb2.GetExecutionRequest, budget: Budget) -> Execution:
        connection = self._caller.connection.open()
        answer = await self._caller.unary(connection.executions.GetExecution, request, budget)
        return wire.execution(answer.execution)

    async def cancel(self, execution_id: str, budget: Budget) -> Execution:
        """Asks an execution to stop, and answers how it stands. Raises ExecutionNotFound."""
        request = tool_execution_pb2.CancelExecutionRequest(execution_id=execution_id)
        connection = self._caller.connection.open()
        answer = await self._caller.unary(connection.executions.CancelExecution, request, budget)
        return wire.execution(answer.execution)

    async def lost(self, error: ToolwrightError, budget: Budget) -> Execution:
        """The execution of a call whose answer was lost. Raises OutcomeUnknown when it cannot be found."""
        inside = budget.at_most(self._caller.policy.lookup_seconds)
        while True:
            try:
                return await self.by_request(error.request_id, inside)
            except NotFound as missing:
                raise outcome_unknown(error, "the server that was asked does not know the call") from missing
            except ToolwrightError as failed:
                if not isinstance(failed, Unavailable) or inside.left() <= LOOKUP_PAUSE_SECONDS:
                    raise outcome_unknown(error, f"looking it up failed: {failed.message}") from failed
                await asyncio.sleep(LOOKUP_PAUSE_SECONDS)


def outcome_unknown(error: ToolwrightError, why: str) -> OutcomeUnknown:
    """The error of a call whose side effect may have happened."""
    request_id = error.request_id
    failure = Failure(
        code=grpc.StatusCode.ABORTED,
        reason="OUTCOME_UNKNOWN",
        message=f"call {request_id} was sent and its answer was lost ({error.message}); {why}",
        suggested_action=f"Look it up with find(request_id={request_id!r}) or where the tool acts; never resend it.",
        metadata={"outcome": UNKNOWN, "request_id": request_id},
    )
    return OutcomeUnknown(failure, request_id=request_id)
