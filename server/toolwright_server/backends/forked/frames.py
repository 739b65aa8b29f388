"""How the server and a worker process talk: a JSON header and a raw payload, each with its length before it."""

import struct
from typing import Any, cast

import orjson

_LENGTHS = struct.Struct("<II")
HEADER_LIMIT = 128 * 1024

Header = list[Any]


class Garbage(Exception):
    """The bytes are no frame: whoever wrote them is not to be trusted any more."""


def frame(header: Header, payload: bytes = b"") -> bytes:
    """One frame. `header` is a JSON array whose first item says what the frame is."""
    text = orjson.dumps(header)
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


class Frames:
    """Cuts a stream of bytes into frames; payloads are at most `payload_limit` bytes."""

    __slots__ = ("_buffer", "_payload_limit", "_start")

    def __init__(self, payload_limit: int) -> None:
        self._buffer = bytearray()
        self._start = 0
        self._payload_limit = payload_limit

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> tuple[Header, bytes] | None:
        """The next whole frame, or None. Raises Garbage."""
        start = self._start + _LENGTHS.size
        if len(self._buffer) < start:
            return None
        header_size, payload_size = _LENGTHS.unpack_from(self._buffer, self._start)
        if header_size > HEADER_LIMIT or payload_size > self._payload_limit:
            raise Garbage(f"a frame of {header_size} + {payload_size} bytes")
        middle = start + header_size
        end = middle + payload_size
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            header = _parsed(bytes(view[start:middle]))
            payload = bytes(view[middle:end])
        self._start = end
        return header, payload


def _parsed(text: bytes) -> Header:
    try:
        header: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Garbage("a frame whose header is not JSON") from None
    if not isinstance(header, list) or not header:
        raise Garbage("a frame whose header is not an array")
    return cast("Header", header)
