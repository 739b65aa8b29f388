"""Tools that write artifacts and act on the world, which is the counter's process (counter.py). Loaded with `--tools`.

Each attempt writes first and asks then, so that one that is refused has written something. What they write tells their
key, so that anybody can tell whether it is whole.
"""

import asyncio
import json
import os
import socket
import time
from typing import Any, Final

from tests.acting_tools import Acted, ask
from toolwright_server import AsyncToolContext, Effect, RetryPolicy, Runs, SyncToolContext, ToolError, tool

QUICKLY: Final = RetryPolicy(attempts=3, base_seconds=0.01, maximum_seconds=0.03)
ALLOWED: Final = {f"writing.{name}": QUICKLY.attempts for name in ("act", "worker", "thread")}
CHUNK: Final = 16 * 1024
RECEIPT: Final = "receipt.txt"
# Larger than what a server answers in its place with these settings.
VALUE_SIZE: Final = 100_000
INLINE_LIMIT: Final = 65_536


def piece(key: str, number: int) -> bytes:
    """The bytes of one chunk, which no other one has."""
    return f"{key:>10}{number:06d}".encode() * (CHUNK // 16)


def _question(execution_id: str, key: str, refused: int, *, acts: bool) -> dict[str, Any]:
    return {"what": "try", "execution_id": execution_id, "key": key, "refused": refused, "acts": acts}


def _number(answer: dict[str, Any], *, acts: bool) -> int:
    if "refused" in answer:
        raise ToolError("not now", retryable=True, nothing_sent=acts)
    return answer["number"]


@tool("writing.act", effect=Effect.SIDE_EFFECT, retry=QUICKLY)
async def act(  # noqa: PLR0917 (arguments of a tool have names)
    context: AsyncToolContext, key: str, chunks: int = 1, refused: int = 0, before: float = 0, after: float = 0
) -> Acted:
    """Writes so many chunks within the time before it acts, and a receipt then."""
    async with context.artifact(f"{key}.bin") as file:
        for number in range(chunks):
            await file.write(piece(key, number))
            await asyncio.sleep(before / chunks)
    answer = _number(await ask(_question(context.execution_id, key, refused, acts=True)), acts=True)
    async with context.artifact(RECEIPT, "text/plain") as file:
        await file.write(str(answer))
    await asyncio.sleep(after)
    return Acted(answer, key)


def _written(
    context: SyncToolContext, key: str, *, chunks: int, refused: int, before: float, after: float, acts: bool
) -> Acted:
    with context.artifact(f"{key}.bin") as file:
        for number in range(chunks):
            file.write(piece(key, number))
            time.sleep(before / chunks)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["COUNTER_SOCKET"])
        connection.sendall(json.dumps(_question(context.execution_id, key, refused, acts=acts)).encode() + b"\n")
        with connection.makefile() as answers:
            answer = _number(json.loads(answers.readline()), acts=acts)
    with context.artifact(RECEIPT, "text/plain") as file:
        file.write(str(answer))
    time.sleep(after)
    return Acted(answer, key)


@tool("writing.worker", effect=Effect.SIDE_EFFECT, retry=QUICKLY)
def in_worker(  # noqa: PLR0917 (as above)
    context: SyncToolContext, key: str, chunks: int = 1, refused: int = 0, before: float = 0, after: float = 0
) -> Acted:
    """The same in a worker process."""
    return _written(context, key, chunks=chunks, refused=refused, before=before, after=after, acts=True)


@tool("writing.thread", effect=Effect.READ_ONLY, runs=Runs.THREAD, retry=QUICKLY)
def in_thread(  # noqa: PLR0917 (as above)
    context: SyncToolContext, key: str, chunks: int = 1, refused: int = 0, before: float = 0, after: float = 0
) -> Acted:
    """The same in a thread, without acting."""
    return _written(context, key, chunks=chunks, refused=refused, before=before, after=after, acts=False)


@tool("writing.value", effect=Effect.READ_ONLY)
async def value(key: str, chunks: int = 1, refused: int = 0, before: float = 0, after: float = 0) -> dict[str, str]:
    """Returns so much that the server makes an artifact of it."""
    del chunks, refused
    await asyncio.sleep(before + after)
    return {"key": key, "text": "x" * VALUE_SIZE}
