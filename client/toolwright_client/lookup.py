"""Asks the server about tools and executions: effects, and what became of a call whose answer was lost."""

import grpc

from toolwright.v1 import tool_catalog_pb2, tool_execution_pb2
from toolwright_client import wire
from toolwright_client.calls import Caller
from toolwright_client.deadline import Budget
from toolwright_client.errors import DeadlineExceeded, OutcomeUnknown, ToolwrightError, Unavailable
from toolwright_client.model import UNKNOWN, Effect, Execution, Failure, Tool


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
        """What the tool does to the world; absent: the server does not say. Raises when it cannot be asked."""
        if (name, version) not in self._effects:
            try:
                await self.tool(name, version, budget)
            except (Unavailable, DeadlineExceeded):
                raise
            except ToolwrightError:
                # Whatever it is, the call itself will tell.
                return None
        return self._effects[name, version]

    def is_repeatable(self, name: str, version: str) -> bool:
        """Whether the tool is known to do no harm when it is called twice."""
        effect = self._effects.get((name, version))
        return effect is not None and effect.repeatable

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


def outcome_unknown(error: ToolwrightError, why: str, request_id: str = "") -> OutcomeUnknown:
    """The error of a call whose side effect may have happened; of the error's own call unless another is named."""
    request_id = request_id or error.request_id
    failure = Failure(
        code=grpc.StatusCode.ABORTED,
        reason="OUTCOME_UNKNOWN",
        message=f"call {request_id} was sent and its answer was lost ({error.message}); {why}",
        suggested_action=f"Ask again with request_id {request_id!r}, or look where the tool acts; never under another.",
        metadata={"outcome": UNKNOWN, "request_id": request_id},
    )
    return OutcomeUnknown(failure, request_id=request_id)
