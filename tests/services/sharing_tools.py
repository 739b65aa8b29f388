"""Tools that share their answers and are counted outside, loaded with `--tools`.

The environment variable COUNTER_SOCKET says where the counter listens, see tests/counter.py.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from toolwright_server import AsyncToolContext, CachePolicy, Effect, tool


@dataclass(frozen=True, slots=True)
class Secret:
    """What nobody else may see."""

    word: Annotated[str, Field(json_schema_extra={"x-sensitive": True})]


async def _count(context: AsyncToolContext, key: str) -> int:
    reader, writer = await asyncio.open_unix_connection(os.environ["COUNTER_SOCKET"])
    try:
        question = {"what": "act", "execution_id": context.execution_id, "key": key}
        writer.write(json.dumps(question).encode() + b"\n")
        number: int = json.loads(await reader.readline())["number"]
    finally:
        writer.close()
    return number


@tool("sharing.joined", effect=Effect.READ_ONLY, cache=CachePolicy(0))
async def joined(context: AsyncToolContext, key: str, gate: str) -> int:
    """Waits for the file `gate`, is counted, and answers with the number. Counted before as `key-begun`."""
    await _count(context, f"{key}-begun")
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - another process opens it
        await asyncio.sleep(0.01)
    return await _count(context, key)


@tool("sharing.kept", effect=Effect.READ_ONLY, cache=CachePolicy(60))
async def kept(context: AsyncToolContext, key: str) -> int:
    """Is counted, and answers with the number."""
    return await _count(context, key)


@tool("sharing.secret", effect=Effect.READ_ONLY, cache=CachePolicy(60))
async def secret(context: AsyncToolContext, key: str) -> Secret:
    """Is counted, and answers with a secret word."""
    return Secret(f"word-{await _count(context, key)}-{key}")
