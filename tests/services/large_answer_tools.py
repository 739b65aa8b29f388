"""Tools whose answers are large or have artifacts, and that share them or have something in their place.

Each adds a line to the file `log` when it is called; `seconds` is how long it takes.
"""

import asyncio
from pathlib import Path

from toolwright_server import AsyncToolContext, CachePolicy, Effect, FallbackPolicy, RetryPolicy, ToolError, tool

SIZE = 1_200_000
TWICE = RetryPolicy(attempts=2, base_seconds=0.01)


async def _called(log: str, seconds: float = 0.0) -> None:
    with Path(log).open("a") as file:  # noqa: ASYNC230 - one line
        file.write("called\n")
    await asyncio.sleep(seconds)


@tool("answers.large", effect=Effect.READ_ONLY, cache=CachePolicy(60))
async def large(log: str, seconds: float = 0.0) -> str:
    """Answers with more than is answered inline."""
    await _called(log, seconds)
    return "x" * SIZE


@tool("answers.file", effect=Effect.READ_ONLY, cache=CachePolicy(60))
async def with_file(context: AsyncToolContext, log: str, seconds: float = 0.0) -> int:
    """Answers with an artifact."""
    await _called(log, seconds)
    async with context.artifact("part.txt", "text/plain") as file:
        await file.write(context.execution_id)
    return 1


@tool("answers.half", effect=Effect.READ_ONLY, retry=TWICE, fallback=FallbackPolicy(value="0"))
async def half(context: AsyncToolContext, log: str) -> int:
    """Writes an artifact, and fails then."""
    await _called(log)
    async with context.artifact("half.txt", "text/plain") as file:
        await file.write("half of it")
    raise ToolError("the upstream is gone", retryable=True)


@tool("answers.half_elsewhere", effect=Effect.READ_ONLY, retry=TWICE, fallback=FallbackPolicy(tool="answers.file"))
async def half_elsewhere(context: AsyncToolContext, log: str) -> int:
    """The same, with a tool in its place that has an artifact itself."""
    return await half(context, log)


@tool("answers.late", effect=Effect.READ_ONLY, timeout_seconds=0.2, fallback=FallbackPolicy(value="0"))
async def late(context: AsyncToolContext, log: str) -> int:
    """Writes an artifact, and takes too long then."""
    await _called(log)
    async with context.artifact("half.txt", "text/plain") as file:
        await file.write("half of it")
    await asyncio.sleep(60)
    return 1


@tool("answers.replaced", effect=Effect.READ_ONLY, retry=TWICE, fallback=FallbackPolicy(tool="answers.large"))
async def replaced(log: str) -> str:
    """Fails, so that another one answers, with much."""
    await _called(log)
    raise ToolError("the upstream is gone", retryable=True)
