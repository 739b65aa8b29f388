"""Protobuf's well-known types from Python values and back: JSON values, times, durations. Knows no message of ours."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from toolwright_server.errors import invalid

# Integers beyond this are not exact as doubles.
_EXACT = 2.0**53
# In nanoseconds.
_SECOND = 1_000_000_000


def from_struct(struct: Struct) -> dict[str, Any]:
    """A Struct as Python values; integral numbers within 2^53 become integers, as they would be written in JSON."""
    return {key: _from_value(value) for key, value in struct.fields.items()}


def _from_value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_from_value(item) for item in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def fill_value(message: Value, value: Any) -> None:
    """Write a JSON value into an empty Value."""
    if value is None:
        message.null_value = 0  # pyright: ignore[reportAttributeAccessIssue] (NULL_VALUE)
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, (int, float)):
        message.number_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:  # pyright: ignore[reportUnknownVariableType] (JSON)
            fill_value(message.list_value.values.add(), item)
    else:
        message.struct_value.SetInParent()
        for key, item in value.items():
            fill_value(message.struct_value.fields[key], item)


def fill_timestamp(message: Timestamp, seconds: float) -> None:
    """Write seconds since the epoch, to the microsecond."""
    whole = int(seconds)
    message.seconds = whole
    message.nanos = int((seconds - whole) * 1e6) * 1_000


def read_duration(message: Duration, field: str) -> float:
    """Seconds. Raises INVALID_ARGUMENTS for what is none."""
    seconds, nanos = message.seconds, message.nanos
    if abs(nanos) >= _SECOND or seconds * nanos < 0:
        raise invalid(field, "is no Duration: nanos lie within a second and have the sign of seconds")
    return seconds + nanos / _SECOND


def fill_duration(message: Duration, seconds: float) -> None:
    """Write seconds."""
    whole = int(seconds)
    message.seconds = whole
    message.nanos = int((seconds - whole) * 1e9)
