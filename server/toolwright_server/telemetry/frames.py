"""How the server and its exporter process talk: a length of 4 bytes, then JSON.

Never looks inside the JSON, except to make a batch of spans encodable whatever a tool put into its attributes.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

import orjson

from toolwright_server.telemetry.instruments import MetricSnapshot
from toolwright_server.telemetry.spans import SpanRecord

_LENGTH_BYTES = 4
_LARGEST_INTEGER = 2**63
_DEEPEST = 16


def framed(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def read_frames(stream: BinaryIO) -> Iterator[bytes]:
    """The payloads on a blocking, buffered stream until its end; a frame cut off by the end is left out."""
    while len(length := stream.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
        size = int.from_bytes(length, "big")
        payload = stream.read(size)
        if len(payload) < size:
            return
        yield payload


def encode_spans(records: Sequence[SpanRecord]) -> bytes:
    """One frame's payload with these spans."""
    try:
        return orjson.dumps({"spans": records}, default=_text)
    except (orjson.JSONEncodeError, TypeError):
        # A tool put something into its span that JSON or OTLP cannot carry: make every value plain, then it goes.
        return orjson.dumps({"spans": _plain(records)})


def encode_metrics(snapshots: Iterable[MetricSnapshot]) -> bytes:
    """One frame's payload with these metrics."""
    return orjson.dumps({"metrics": list(snapshots)})


def _text(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return str(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -_LARGEST_INTEGER <= value < _LARGEST_INTEGER else str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value)
        return {_plain(str(key)): _plain(entry, depth + 1) for key, entry in entries.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, depth + 1) for entry in cast("Sequence[object]", value)]
    return _text(value)
