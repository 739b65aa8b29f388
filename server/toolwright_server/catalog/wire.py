"""Between the protos and the catalogue."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolwright.v1 import common_pb2
from toolwright.v1 import tool_catalog_pb2 as pb
from toolwright_server.catalog.model import Effect, FallbackPolicy, Tool
from toolwright_server.catalog.schema import Schema
from toolwright_server.catalog.settings_model import FIELDS, ToolSettings
from toolwright_server.catalog.settings_registry import SettingsChange
from toolwright_server.errors import Violation, invalid
from toolwright_server.rpc.wellknown import read_duration

_EFFECTS = {effect: common_pb2.Effect.Value(f"EFFECT_{effect.name}") for effect in Effect}
_SCOPES = {"user": pb.CACHE_SCOPE_USER, "tenant": pb.CACHE_SCOPE_TENANT}


def tool(declared: Tool, timeout_seconds: float, fallback: FallbackPolicy | None) -> pb.Tool:
    """A tool; `timeout_seconds` is what holds when a call names no timeout, `fallback` what may answer in its place."""
    terms = declared.terms
    message = pb.Tool(
        name=declared.name,
        version=declared.version,
        display_name=declared.display_name,
        description=declared.description,
        category=declared.category,
        effect=_EFFECTS[declared.effect],
        input_schema_json=declared.input_schema.json if terms is None else terms.listed_schema.json,
        output_schema_json=declared.output_schema.json if declared.output_schema is not None else "",
        enabled=terms is None or terms.enabled,
        labels=declared.labels,
        price_micros=declared.asked_price_micros,
    )
    message.timeout.FromMilliseconds(round(timeout_seconds * 1000))
    if fallback is not None:
        message.fallback_policy.tool = fallback.tool
        message.fallback_policy.automatic = fallback.automatic
    if declared.cache is not None:
        message.cache_policy.ttl.FromMilliseconds(round(declared.cache.ttl_seconds * 1000))
        message.cache_policy.scope = _SCOPES[declared.cache.scope]
    return message


def validation(violations: Sequence[Violation]) -> pb.ValidateArgumentsResponse:
    """What is wrong with the arguments, if anything."""
    return pb.ValidateArgumentsResponse(
        valid=not violations,
        violations=[
            common_pb2.FieldViolation(field=found.field, description=found.description) for found in violations
        ],
    )


# A field of the contract → the model's, and how it is read; None: cleared.
_SETTINGS: Mapping[str, tuple[str, Callable[[pb.ToolSettings], Any]]] = {
    "enabled": ("enabled", lambda said: said.enabled if said.HasField("enabled") else None),
    "hidden": ("hidden", lambda said: said.hidden if said.HasField("hidden") else None),
    "fixed_arguments_json": ("fixed_arguments", lambda said: said.fixed_arguments_json or None),
    "default_arguments_json": ("default_arguments", lambda said: said.default_arguments_json or None),
    "timeout": (
        "timeout_seconds",
        lambda said: read_duration(said.timeout, "settings.timeout") if said.HasField("timeout") else None,
    ),
    "price_micros": ("price_micros", lambda said: said.price_micros if said.HasField("price_micros") else None),
    "limits": ("limits", lambda said: dict(said.limits) or None),
}
assert {name for name, _ in _SETTINGS.values()} == set(FIELDS)


def settings(kept: ToolSettings, schemas: Sequence[Schema]) -> pb.ToolSettings:
    """Settings, without what is secret among their arguments to any of the schemas: those of the tool's versions."""
    message = pb.ToolSettings(
        tenant_id=kept.tenant,
        tool=kept.tool,
        enabled=kept.enabled,
        hidden=kept.hidden,
        fixed_arguments_json=_redacted(kept.fixed_arguments, schemas),
        default_arguments_json=_redacted(kept.default_arguments, schemas),
        price_micros=kept.price_micros,
        limits=kept.limits,
        etag=kept.etag,
        updater=kept.updater,
    )
    if kept.timeout_seconds is not None:
        message.timeout.FromNanoseconds(round(kept.timeout_seconds * 1e9))
    if kept.revision:
        message.update_time.FromMicroseconds(round(kept.update_time * 1e6))
    return message


def _redacted(arguments: bytes, schemas: Sequence[Schema]) -> str:
    for schema in schemas if arguments else ():
        arguments = schema.redacted(arguments)
    return arguments.decode()


def settings_change(request: pb.UpdateToolSettingsRequest) -> SettingsChange:
    """What is to be changed. Raises INVALID_ARGUMENTS for a mask that names what there is not."""
    said = request.settings
    asked = list(request.update_mask.paths)
    for number, path in enumerate(asked):
        if path != "*" and path not in _SETTINGS:
            raise invalid(f"update_mask.paths[{number}]", f"{path[:64]!r} is not one of {', '.join(_SETTINGS)}")
    values = {path: read(said) for path, (_, read) in _SETTINGS.items()}
    if not asked:
        asked = [path for path, value in values.items() if value is not None]
    elif "*" in asked:
        asked = list(_SETTINGS)
    return SettingsChange(
        tenant=said.tenant_id,
        tool=said.tool,
        etag=said.etag,
        values={_SETTINGS[path][0]: values[path] for path in asked},
    )
