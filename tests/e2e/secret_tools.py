"""Tools that are given secrets and give some back, loaded with `--tools`."""

from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from pydantic import Field, SecretStr

from toolwright_server import AsyncToolContext, Effect, SyncToolContext, tool

Sensitive = Annotated[str, Field(json_schema_extra={"x-sensitive": True})]
Short = Annotated[str, Field(max_length=64, json_schema_extra={"x-sensitive": True})]


class Account(pydantic.BaseModel):
    """An account with its password, as deep as accounts lie."""

    name: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened, with the key to it."""

    name: str
    key: Sensitive


@tool("vault.open", effect=Effect.SIDE_EFFECT)
async def open_vault(name: str, key: Short, accounts: list[Account] | None = None) -> Opened:
    """Answers the key that it was given."""
    del accounts
    return Opened(name, key)


@tool("vault.open_sync", effect=Effect.SIDE_EFFECT)
def open_sync(context: SyncToolContext, name: str, key: Short) -> Opened:
    """The same in a worker process."""
    context.progress(1, 1)
    return Opened(name, key)


@tool("vault.nest", effect=Effect.SIDE_EFFECT)
async def nest(context: AsyncToolContext, name: str, key: Short) -> Any:
    """Hands the key on."""
    return (await context.call("vault.open", {"name": name, "key": key}))["name"]


@tool("vault.break", effect=Effect.SIDE_EFFECT)
async def break_vault(name: str, key: Short) -> Opened:
    """Fails with the key in its hands and on its lips."""
    raise RuntimeError(f"{name} does not open with {key}")


@tool("vault.break_sync", effect=Effect.SIDE_EFFECT)
def break_sync(name: str, key: Short) -> Opened:
    """The same in a worker process."""
    raise RuntimeError(f"{name} does not open with {key}")


@tool("vault.lie", effect=Effect.SIDE_EFFECT)
async def lie(name: str, key: Short) -> Opened:
    """Answers something else than it has declared, with the key in it."""
    del name
    found: Any = {"key": [key]}
    return found
