"""What holds for a tool in one tenant: computed once from its settings, and asked by every call. Keeps nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import orjson

from toolwright_server.catalog.model import Terms, Tool
from toolwright_server.catalog.schema import Schema
from toolwright_server.catalog.settings_check import argument_violations, members
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.errors import Reason, ToolwrightError, Violation

_NOT_STARTED = {"outcome": "not_started"}


def on_terms(tool: Tool, settings: ToolSettings) -> Tool:
    """The tool as the tenant has it: the same one where the settings change nothing about it."""
    if settings.changes_nothing:
        return tool
    fixed, defaults = members(settings.fixed_arguments), members(settings.default_arguments)
    wrong = argument_violations(settings, [tool])
    terms = Terms(
        enabled=settings.enabled is not False,
        price_micros=settings.price_micros,
        limits=settings.limits,
        fixed={name: _text(value) for name, value in fixed.items()},
        defaults={name: _text(value) for name, value in defaults.items() if name not in fixed},
        listed_schema=_listed(tool.input_schema, fixed, defaults),
        misfit=f"{wrong[0].field} {wrong[0].description}" if wrong else "",
    )
    timeout = tool.timeout_seconds if settings.timeout_seconds is None else settings.timeout_seconds
    return replace(tool, terms=terms, timeout_seconds=timeout)


def agree(tool: Tool, arguments: dict[str, Any]) -> None:
    """Let a call in on the tenant's terms: its arguments become those that the tool is given.

    Raises TOOL_DISABLED, INVALID_STATE (the settings do not fit this version) or INVALID_ARGUMENTS.
    """
    terms = tool.terms
    if terms is None:
        return
    if not terms.enabled:
        raise ToolwrightError(
            Reason.TOOL_DISABLED, f"{tool.name} is turned off for this tenant", metadata=dict(_NOT_STARTED)
        )
    if terms.misfit:
        # To leave a fixed argument out would let the tool do what it must not.
        raise ToolwrightError(
            Reason.INVALID_STATE,
            f"the tenant's settings do not fit {tool.name} version {tool.version}: an operator must correct them",
            metadata=dict(_NOT_STARTED),
        )
    wrong = completed(terms, arguments)
    if wrong:
        raise ToolwrightError(
            Reason.INVALID_ARGUMENTS,
            f"the arguments of {tool.name} at {wrong[0].field}: {wrong[0].description}",
            metadata=dict(_NOT_STARTED),
            violations=wrong,
        )


def completed(terms: Terms, arguments: dict[str, Any]) -> list[Violation]:
    """Put fixed and default arguments in, each a value of the call's own; what was sent against a fixed one."""
    wrong: list[Violation] = []
    for name, text in terms.fixed.items():
        if name in arguments and _text(arguments[name]) != text:
            wrong.append(Violation(name, "is fixed for this tenant to another value: leave it out"))
        arguments[name] = orjson.loads(text)
    for name, text in terms.defaults.items():
        if name not in arguments:
            arguments[name] = orjson.loads(text)
    return wrong


def _text(value: Any) -> bytes:
    return bytes(memoryview(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)))


def _listed(schema: Schema, fixed: Mapping[str, Any], defaults: Mapping[str, Any]) -> Schema:
    """The schema without the fixed arguments, and with the tenant's defaults: what callers may send."""
    if not fixed and not defaults:
        return schema
    document = dict(schema.document)
    properties = dict(cast("Mapping[str, Any]", document.get("properties", {})))
    required = cast("list[str]", document.get("required", []))
    for name in fixed:
        properties.pop(name, None)
    for name, value in defaults.items():
        said = properties.get(name)
        if isinstance(said, dict):
            properties[name] = _with_default(schema, cast("dict[str, Any]", said), name, value)
    document["properties"] = properties
    document["required"] = [name for name in required if name not in fixed and name not in defaults]
    if not document["required"]:
        del document["required"]
    return Schema(document)


def _with_default(schema: Schema, said: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    secret = schema.redaction is not None and schema.redaction.value({name: value})[name] != value
    without = {key: part for key, part in said.items() if key != "default"}
    return without if secret else {**without, "default": value}
