"""What a tool may declare about answers in its place. Never gives one."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from toolwright_server.catalog.model import DeclarationError, Effect, Tool
from toolwright_server.catalog.schema import Schema

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
    """Refuse a fallback by a tool that nobody knows, that does more, or by which more is kept. Raises
    DeclarationError.
    """
    for tool in tools:
        name = "" if tool.fallback is None else tool.fallback.tool
        if not name:
            continue
        other = known.get((name, ""))
        if other is None:
            raise DeclarationError(f"tool {tool.name!r}: fallback.tool {name!r} is not declared")
        if _EFFECTS.index(other.effect) > _EFFECTS.index(tool.effect):
            # Who calls it would be told less than may have happened.
            raise DeclarationError(
                f"tool {tool.name!r} is {tool.effect.name}: fallback.tool {name!r} must do no more, and is "
                f"{other.effect.name}"
            )
        _check_secrets(tool, other)


def _check_secrets(tool: Tool, other: Tool) -> None:
    """The one is given the arguments of the other, whose result is kept as its own: neither asked for that."""
    if _reveals(tool.keep_arguments, tool.input_schema, other.keep_arguments, other.input_schema):
        raise DeclarationError(
            f"tool {tool.name!r}: fallback.tool {other.name!r} would keep arguments that are not kept here: mark them "
            "as secret there as well, or set keep_arguments=False there"
        )
    if _reveals(other.keep_result, other.output_schema, tool.keep_result, tool.output_schema):
        raise DeclarationError(
            f"tool {tool.name!r} would keep what fallback.tool {other.name!r} does not keep of its result: mark it as "
            "secret here as well, or set keep_result=False here"
        )


def _reveals(keeps: bool, schema: Schema | None, keeps_there: bool, there: Schema | None) -> bool:
    """Whether what a tool does not keep, as a whole or because its schema marks secrets, would be kept elsewhere."""
    if not keeps_there:
        return False
    return not keeps or (_marks(schema) and not _marks(there))


def _marks(schema: Schema | None) -> bool:
    return schema is not None and schema.redaction is not None


def _read(value: str, where: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise DeclarationError(f"{where}: fallback.value is no JSON text: {error}") from None
