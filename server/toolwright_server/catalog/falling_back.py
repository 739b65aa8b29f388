"""What a tool may declare about answers in its place. Never gives one."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from toolwright_server.catalog.model import DeclarationError, Effect, Tool

# What a tool may do, the least first.
_EFFECTS: Final = (Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT)


def check(tool: Tool, where: str) -> None:
    """Refuse, by name, a fallback that cannot be right for the tool. Raises DeclarationError."""
    policy = tool.fallback
    if policy is None:
        return
    if (policy.value is None) is (not policy.tool):
        raise DeclarationError(f"{where}: fallback is a fixed value or another tool: give one of them")
    if policy.tool == tool.name:
        raise DeclarationError(f"{where}: fallback.tool is the tool itself: name another one")
    if policy.value is not None:
        value = _read(policy.value, where)
        wrong = tool.output_schema.violations(value) if tool.output_schema is not None else ()
        if wrong:
            found = "; ".join(f"{each.field}: {each.description}" for each in wrong)
            raise DeclarationError(f"{where}: fallback.value is no answer of the tool: {found}")


def check_names(tools: Iterable[Tool], known: Mapping[tuple[str, str], Tool]) -> None:
    """Refuse a fallback by a tool that nobody knows, or that does more. Raises DeclarationError."""
    for tool in tools:
        other = "" if tool.fallback is None else tool.fallback.tool
        if other and (other, "") not in known:
            raise DeclarationError(f"tool {tool.name!r}: fallback.tool {other!r} is not declared")
        if other and _EFFECTS.index(known[other, ""].effect) > _EFFECTS.index(tool.effect):
            # Who calls it would be told less than may have happened.
            raise DeclarationError(
                f"tool {tool.name!r} is {tool.effect.name}: fallback.tool {other!r} must do no more, and is "
                f"{known[other, ''].effect.name}"
            )


def _read(value: str, where: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise DeclarationError(f"{where}: fallback.value is no JSON text: {error}") from None
