"""Tools whose calls leave something to be asked for, loaded with `--tools`."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, SecretStr

from toolwright_server import AsyncToolContext, Effect, tool

Token = Annotated[str, Field(json_schema_extra={"x-sensitive": True})]


class Session(BaseModel):
    """What a login answers: its token is a secret, its user is not."""

    user: str
    token: Token


@tool("history.login", effect=Effect.SIDE_EFFECT)
async def login(user: str, password: SecretStr) -> Session:
    """Answers with the password as the session's token."""
    return Session(user=user, token=password.get_secret_value())


@tool("history.fail", effect=Effect.SIDE_EFFECT)
async def fail(user: str, password: Token) -> int:
    """Raises what quotes its argument."""
    return int(password)


@tool("history.nest", effect=Effect.SIDE_EFFECT)
async def nest(context: AsyncToolContext, user: str, password: Token) -> dict[str, Token]:
    """Logs in by another call, and gets the token as it is."""
    session = await context.call("history.login", {"user": user, "password": password})
    return {"token": session["token"]}


@tool("history.keep_nothing", effect=Effect.SIDE_EFFECT, keep_arguments=False, keep_result=False)
async def keep_nothing(user: str, notes: dict[str, Any]) -> dict[str, Any]:
    """Marks nothing, and leaves nothing."""
    return notes
