"""Between the protos and the catalogue."""

from collections.abc import Sequence

from toolwright.v1 import common_pb2
from toolwright.v1 import tool_catalog_pb2 as pb
from toolwright_server.catalog.model import Effect, Tool
from toolwright_server.errors import Violation

_EFFECTS = {effect: common_pb2.Effect.Value(f"EFFECT_{effect.name}") for effect in Effect}


def tool(declared: Tool, timeout_seconds: float) -> pb.Tool:
    """A tool; `timeout_seconds` is what holds when a call names no timeout."""
    message = pb.Tool(
        name=declared.name,
        version=declared.version,
        display_name=declared.display_name,
        description=declared.description,
        category=declared.category,
        effect=_EFFECTS[declared.effect],
        input_schema_json=declared.input_schema.json,
        output_schema_json=declared.output_schema.json if declared.output_schema is not None else "",
        enabled=True,
        labels=declared.labels,
        price_micros=declared.price_micros,
    )
    message.timeout.FromMilliseconds(round(timeout_seconds * 1000))
    return message


def validation(violations: Sequence[Violation]) -> pb.ValidateArgumentsResponse:
    """What is wrong with the arguments, if anything."""
    return pb.ValidateArgumentsResponse(
        valid=not violations,
        violations=[pb.FieldViolation(field=found.field, description=found.description) for found in violations],
    )
