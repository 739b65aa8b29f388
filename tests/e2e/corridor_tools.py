"""Tools for the tests of the corridor, loaded with `--tools`: what the diagnostics do not do."""

import asyncio
from typing import Any, cast

from toolwright_server import AsyncToolContext, Effect, SyncToolContext, tool


@tool("corridor.act", effect=Effect.SIDE_EFFECT)
async def act(seconds: float) -> None:
    """Does something to the world, which takes its time."""
    await asyncio.sleep(seconds)


@tool("corridor.short", effect=Effect.READ_ONLY, timeout_seconds=0.3)
async def short(seconds: float) -> None:
    """Waits, for at most 0.3 s."""
    await asyncio.sleep(seconds)


@tool("corridor.leak", effect=Effect.READ_ONLY)
def leak(kind: str, secret: str) -> int:
    """Fails in a worker process, with a secret in its hands."""
    if kind == "exception":
        raise RuntimeError(secret)
    if kind == "chained":
        try:
            return int(secret)
        except ValueError as error:
            raise ValueError(f"nothing under {secret}") from error
    return cast("Any", secret)


@tool("corridor.leak_loop", effect=Effect.READ_ONLY)
async def leak_loop(kind: str, secret: str) -> int:
    """Fails on the event loop, with a secret in its hands."""
    await asyncio.sleep(0)
    return leak(kind, secret)


@tool("corridor.flood", effect=Effect.READ_ONLY)
async def flood(context: AsyncToolContext, chunks: int, size: int) -> None:
    """Sends so many chunks of output of so many characters."""
    for _ in range(chunks):
        context.output("x" * size)
        await asyncio.sleep(0)


@tool("corridor.flood_sync", effect=Effect.READ_ONLY)
def flood_sync(context: SyncToolContext, chunks: int, size: int) -> None:
    """Sends so many chunks of output of so many characters from a worker process."""
    for _ in range(chunks):
        context.output("x" * size)


@tool("corridor.who", effect=Effect.READ_ONLY)
def who(context: SyncToolContext) -> dict[str, str]:
    """Says from a worker process in which execution, of which task, for whom it runs."""
    return {"execution_id": context.execution_id, "task_id": context.task_id, "user": context.caller.user}
