"""Protobuf messages as plain JSON for scripts: short enum names, numbers as numbers, `*_json` texts opened.

Times are RFC 3339, durations seconds under `<name>_seconds`. Absent fields and empty texts are left out.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp


def document(message: Message) -> dict[str, Any]:
    """The message as JSON values."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        key, plain = _entry(field, value)
        # What can be absent and is not counts, also when it is empty: a result may be [].
        if field.has_presence or plain not in ("", [], {}):
            found[key] = plain
    return found


def _entry(field: Any, value: Any) -> tuple[str, Any]:
    if isinstance(value, Duration):
        return f"{field.name}_seconds", value.ToNanoseconds() / 1e9
    if isinstance(value, str) and value and field.name.endswith("_json"):
        return field.name.removesuffix("_json"), _opened(value)
    if isinstance(value, Mapping):
        return field.name, dict(cast("Mapping[str, str]", value))
    if isinstance(value, (Message, str, bytes, int, float)):
        return field.name, _plain(field, value)
    return field.name, [_plain(field, part) for part in value]


def _plain(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, (Struct, Value)):
        return MessageToDict(value)
    if isinstance(value, Message):
        return document(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if field.enum_type is None else _enum(field.enum_type, value)


def _enum(kind: Any, number: int) -> str:
    """`SUCCEEDED` for STATE_SUCCEEDED; empty for unspecified; the number itself for one that is newer than we are."""
    if number == 0:
        return ""
    known = kind.values_by_number.get(number)
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(number) if known is None else known.name.removeprefix(prefix)


def _opened(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
