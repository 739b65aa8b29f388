"""Tools that act on the world, which is the counter's process (see counter.py). Loaded with `--tools`.

The environment variable COUNTER_SOCKET says where it listens.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolwright_server import AsyncToolContext, Effect, tool
from toolwright_server.catalog.look_up import Found, NotDone, UnknownExecution


@dataclass(frozen=True, slots=True)
class Acted:
    """The side effect's number, counted from 1 by the other process, and the key it was asked for with."""

    number: int
    key: str


async def ask(question: Mapping[str, Any]) -> dict[str, Any]:
    """What the counter's process answers."""
    reader, writer = await asyncio.open_unix_connection(os.environ["COUNTER_SOCKET"])
    try:
        writer.write(json.dumps(question).encode() + b"\n")
        return json.loads(await reader.readline())
    finally:
        writer.close()


async def _act(context: AsyncToolContext, key: str, before: float, after: float) -> Acted:
    await asyncio.sleep(before)
    answer = await ask({"what": "act", "execution_id": context.execution_id, "key": key})
    await asyncio.sleep(after)
    return Acted(answer["number"], key)


async def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> Found | NotDone:
    """Whether it happened: the other process knows."""
    answer = await ask({"what": "look", "execution_id": execution.execution_id})
    if answer["number"] is None:
        return NotDone()
    return Found({"number": answer["number"], "key": (arguments or {}).get("key")})


@tool("acting.act", effect=Effect.SIDE_EFFECT)
async def act(context: AsyncToolContext, key: str, before: float = 0, after: float = 0) -> Acted:
    """Acts, after so many seconds, and answers so many seconds later."""
    return await _act(context, key, before, after)


@tool("acting.act_known", effect=Effect.SIDE_EFFECT, look_up=look_up)
async def act_known(context: AsyncToolContext, key: str, before: float = 0, after: float = 0) -> Acted:
    """The same; whether it happened can be looked up."""
    return await _act(context, key, before, after)


@tool("acting.read", effect=Effect.READ_ONLY)
async def read(key: str, before: float = 0, after: float = 0) -> str:
    """Answers its key, after a while."""
    await asyncio.sleep(before + after)
    return key


@tool("acting.put", effect=Effect.IDEMPOTENT)
async def put(key: str, before: float = 0, after: float = 0) -> str:
    """As `read`; may be done again."""
    await asyncio.sleep(before + after)
    return key


@tool("acting.paid", effect=Effect.SIDE_EFFECT, price=1)
async def paid(context: AsyncToolContext, key: str, before: float = 0, after: float = 0) -> Acted:
    """As `act`, for a credit."""
    return await _act(context, key, before, after)


@tool("acting.paid_known", effect=Effect.SIDE_EFFECT, look_up=look_up, price=1)
async def paid_known(context: AsyncToolContext, key: str, before: float = 0, after: float = 0) -> Acted:
    """As `act_known`, for a credit."""
    return await _act(context, key, before, after)


@tool("acting.paid_put", effect=Effect.IDEMPOTENT, price=1)
async def paid_put(context: AsyncToolContext, key: str, before: float = 0, after: float = 0) -> Acted:
    """As `act`, for a credit; may be done again."""
    return await _act(context, key, before, after)


@tool("acting.paid_read", effect=Effect.READ_ONLY, price=1)
async def paid_read(key: str, before: float = 0, after: float = 0) -> str:
    """As `read`, for a credit."""
    return await read(key, before, after)
