"""Tools that call other tools, from the event loop and from a worker process.

SIDE_EFFECT, other than the rest of the toolkit: they do whatever the tool does that they call.
"""

from typing import Annotated, Any

from pydantic import Field

from toolwright_server import AsyncToolContext, Effect, SyncToolContext, ToolCallError, ToolError
from toolwright_server.toolkits.diagnostics.kit import toolkit

ToolName = Annotated[str, Field(description="Name of the tool to call.")]
ToolArguments = Annotated[dict[str, Any] | None, Field(description="Its arguments.")]


@toolkit.tool("nest", effect=Effect.SIDE_EFFECT)
async def nest(context: AsyncToolContext, tool: ToolName, arguments: ToolArguments = None) -> Any:
    """Calls another tool from the event loop and returns its value unchanged."""
    try:
        return await context.call(tool, arguments or {})
    except ToolCallError as error:
        raise _failure(tool, error) from error


@toolkit.tool("nest_sync", effect=Effect.SIDE_EFFECT)
def nest_sync(context: SyncToolContext, tool: ToolName, arguments: ToolArguments = None) -> Any:
    """Calls another tool from a worker process and returns its value unchanged."""
    try:
        return context.call(tool, arguments or {})
    except ToolCallError as error:
        raise _failure(tool, error) from error


def _failure(tool: str, error: ToolCallError) -> ToolError:
    """The nested call's failure, under its own reason."""
    return ToolError(
        f"the nested call of {tool} failed: {error.message}",
        reason=error.reason,
        retryable=error.retryable,
        metadata=error.metadata,
    )
