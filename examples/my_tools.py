"""Tools of your own: typed functions in a file.

    toolwright serve --tools examples/my_tools.py
    toolwright exec text.slug text="Hello, World!"

The signature becomes the JSON Schema, the docstring the description that agents read: docs/writing-tools.md says more.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from toolwright_server import AsyncToolContext, Effect, SyncToolContext, ToolError, tool

# What there is to order, in pieces. A real tool would ask a database.
STOCK = {"tea": 12, "coffee": 0}


@tool("text.slug", effect=Effect.READ_ONLY)
async def slug(text: str, longest: Annotated[int, Field(ge=1, le=200)] = 60) -> str:
    """Turns a title into the form that fits an address: `Hello, World!` becomes `hello-world`.

    Args:
        text: The title.
        longest: Most characters to return.
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest]


@tool("text.stretch", effect=Effect.READ_ONLY, timeout_seconds=20)
def stretch(
    context: SyncToolContext,
    text: Annotated[str, Field(description="What to hash.")],
    rounds: Annotated[int, Field(ge=1, le=50_000_000, description="How often.")] = 100_000,
) -> str:
    """Hashes a text again and again. Not async: it runs in a worker process, which is killed when the time is up."""
    digest = text.encode()
    for done in range(rounds):
        digest = hashlib.sha256(digest).digest()
        if done % 50_000 == 0:
            context.progress(done, rounds, "hashing")
    return digest.hex()


@dataclass(frozen=True)
class Order:
    """What was ordered and what is left."""

    item: str
    pieces: int
    left: int


@tool("shop.order")
async def order(item: str, pieces: Annotated[int, Field(ge=1, le=100)] = 1) -> Order:
    """Orders something. Changes the world: nobody repeats this call by themselves.

    Args:
        item: What to order.
        pieces: How many.
    """
    if item not in STOCK:
        raise ToolError(
            f"there is no item {item!r}",
            reason="ITEM_UNKNOWN",
            user_message="We do not have this.",
            suggested_action=f"Order one of: {', '.join(STOCK)}.",
        )
    if STOCK[item] < pieces:
        raise ToolError(
            f"{STOCK[item]} pieces of {item} are left, {pieces} were ordered",
            reason="OUT_OF_STOCK",
            user_message=f"There is not enough {item} left.",
            suggested_action="Order less or something else.",
            metadata={"left": str(STOCK[item])},
        )
    STOCK[item] -= pieces
    return Order(item, pieces, STOCK[item])


@tool("text.greet", effect=Effect.READ_ONLY)
async def greet(context: AsyncToolContext, name: Annotated[str, Field(description="Whom to greet.")]) -> str:
    """Greets somebody by way of another tool, inside the same deadline and trace."""
    short = await context.call("text.slug", {"text": name})
    return f"Hello, {short}!"
