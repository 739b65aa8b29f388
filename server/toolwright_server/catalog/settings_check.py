"""Whether settings can be right for a tool: every field by itself, arguments against the tool's schema."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import orjson

from toolwright_server.catalog.model import Tool
from toolwright_server.catalog.schema import Schema
from toolwright_server.catalog.settings_model import LIMIT_KINDS, ToolSettings
from toolwright_server.credits import MOST_MICROS
from toolwright_server.errors import Violation

# What a schema says of its members one by one; all else is about the whole, which these arguments are not.
_OF_MEMBERS: Final = (
    "$schema",
    "$id",
    "$anchor",
    "$defs",
    "definitions",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
)
# A shorter one is over before the call that it is for has been read.
_LEAST_SECONDS = 0.001
# A window keeps an instant for each call that it has let in.
LIMIT_LARGEST = 1_000_000


def violations(settings: ToolSettings, tools: Sequence[Tool], maximum_timeout: float) -> Sequence[Violation]:
    """What is wrong, by field as ToolSettings of the contract calls it. `tools` are all versions of the tool."""
    found: list[Violation] = []
    timeout, price = settings.timeout_seconds, settings.price_micros
    if timeout is not None and not _LEAST_SECONDS <= timeout <= maximum_timeout:
        found.append(Violation("timeout", f"must be at least {_LEAST_SECONDS} s, and at most {maximum_timeout:g} s"))
    if price is not None and not 0 <= price <= MOST_MICROS:
        found.append(Violation("price_micros", f"must be 0 to {MOST_MICROS}"))
    for kind, number in settings.limits.items():
        if kind not in LIMIT_KINDS:
            found.append(Violation(f"limits[{kind[:64]}]", f"is no kind of limit: use {', '.join(LIMIT_KINDS)}"))
        elif not 0 <= number <= LIMIT_LARGEST:
            found.append(Violation(f"limits[{kind}]", f"must be 0 to {LIMIT_LARGEST}"))
    return [*found, *argument_violations(settings, tools)]


def argument_violations(settings: ToolSettings, tools: Sequence[Tool]) -> Sequence[Violation]:
    """Those of fixed and default arguments alone."""
    fixed, defaults = members(settings.fixed_arguments), members(settings.default_arguments)
    both = sorted(fixed.keys() & defaults.keys())
    found = [Violation(f"default_arguments_json.{name}", "is fixed already: it needs no default") for name in both]
    for tool in tools:
        version = f" (version {tool.version})" if len(tools) > 1 else ""
        for field, given in (("fixed_arguments_json", fixed), ("default_arguments_json", defaults)):
            found += [
                Violation(f"{field}.{wrong.field}" if wrong.field else field, f"{wrong.description}{version}")
                for wrong in (_of_members(tool.input_schema).violations(given) if given else ())
            ]
    return found


def members(text: bytes) -> Mapping[str, Any]:
    """The arguments by name; empty for no text."""
    return cast("dict[str, Any]", orjson.loads(text)) if text else {}


def _of_members(schema: Schema) -> Schema:
    return Schema({key: part for key, part in schema.document.items() if key in _OF_MEMBERS})
