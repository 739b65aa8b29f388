"""Tools that answer: with what they were given, with progress, with much."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from toolwright_server import AsyncToolContext, Effect
from toolwright_server.toolkits.diagnostics.kit import toolkit

# With no interval between the steps the loop is still given to others every so many steps.
_YIELD_EVERY = 32


@dataclass(frozen=True, slots=True)
class Counted:
    """`steps` that were counted."""

    steps: int


@dataclass(frozen=True, slots=True)
class Data:
    """`data` of the length that was asked for."""

    data: str


@dataclass(frozen=True, slots=True)
class Allocated:
    """`bytes` that were allocated and written to."""

    bytes: int


@toolkit.tool("echo", effect=Effect.READ_ONLY)
async def echo(**arguments: Any) -> Any:
    """Returns its arguments, whatever they are, as one unchanged object."""
    return arguments


@toolkit.tool("count", effect=Effect.READ_ONLY)
async def count(
    context: AsyncToolContext,
    steps: Annotated[int, Field(ge=0, le=10_000_000, description="How far to count.")],
    interval_seconds: Annotated[
        float, Field(ge=0, le=3600, description="Pause before each step; 0 counts as fast as it can.")
    ] = 0.1,
) -> Counted:
    """Counts to `steps` and reports progress at each."""
    for step in range(1, steps + 1):
        if interval_seconds:
            await asyncio.sleep(interval_seconds)
        elif step % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
        context.progress(step, steps)
    return Counted(steps)


@toolkit.tool("big", effect=Effect.READ_ONLY)
def big(bytes: Annotated[int, Field(ge=0, le=2**30)]) -> Data:  # noqa: A002 (the argument's public name)
    """Answers with so much text.

    Args:
        bytes: Length of the text, in bytes.
    """
    return Data("x" * bytes)


@toolkit.tool("allocate", effect=Effect.READ_ONLY)
def allocate(bytes: Annotated[int, Field(ge=0, le=2**40)]) -> Allocated:  # noqa: A002 (the argument's public name)
    """Allocates so much memory, writes to all of it and gives it back.

    Args:
        bytes: How much, in bytes.
    """
    taken = b"x" * bytes
    return Allocated(len(taken))
