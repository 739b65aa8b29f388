"""The one canonical encoding of a call's arguments, and the digest made of it.

Canonical JSON: UTF-8, keys sorted by code point, no white space, integers exact within -2^63 to 2^64-1, other numbers
as the shortest text that reads back as the same double (`1` and `1.0` differ; a Struct's integral numbers within 2^53
count as integers). Digest: SHA-256 over the length-prefixed tool, version and user, then the canonical arguments.
"""

import hashlib
import json
import math
import struct
from functools import lru_cache
from typing import Any, cast

import orjson

from toolwright_server.errors import Reason, ToolwrightError, invalid

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
# Levels of objects and arrays: orjson's own limit when it writes.
NESTING_LIMIT = 254

# Every digit becomes 0, all else a blank: one search then finds a number (or a text) of 19 digits or more.
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))  # noqa: PLR2004
_LONG = b"0" * 19


def parse(text: str, limit: int) -> tuple[dict[str, Any], bytes]:
    """Arguments and their canonical form, from JSON text of one object of at most `limit` bytes.

    Raises INVALID_ARGUMENTS (not JSON, not an object, integer beyond 64 bits, nested too deep) or PAYLOAD_TOO_LARGE.
    """
    if not text:
        return {}, b"{}"
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise invalid("arguments_json", f"is not JSON: half a surrogate pair at character {error.start}") from None
    if len(raw) > limit:
        raise too_large(len(raw), limit)
    try:
        arguments = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid("arguments_json", f"is not JSON: {error}") from None
    found = _encoded(arguments, "arguments_json", limit)
    if _LONG in raw.translate(_DIGITS):
        # orjson reads integers beyond 64 bits as floats, in silence. After encoding, which bounds the nesting:
        # the standard library's parser would recurse without end.
        _check_integers(text)
    return found


def checked(arguments: Any, field: str, limit: int) -> tuple[dict[str, Any], bytes]:
    """The canonical form of arguments that are Python values already. Raises as `parse`."""
    found = _encoded(arguments, field, limit)
    if b"null" in found[1] and not _finite(arguments):
        # orjson writes them as null, in silence: two different calls would have one digest.
        raise invalid(field, "holds a number that is NaN or infinite, which JSON cannot write")
    return found


def encoded(arguments: dict[str, Any]) -> bytes:
    """The canonical form of arguments that were checked before."""
    return bytes(memoryview(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)))


def _encoded(arguments: Any, field: str, limit: int) -> tuple[dict[str, Any], bytes]:
    if type(arguments) is not dict:
        raise invalid(field, "must be a JSON object")
    try:
        canonical = orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise invalid(field, f"cannot be written as JSON: {error}") from None
    if len(canonical) > limit:
        raise too_large(len(canonical), limit)
    # A copy of its own size: orjson hands out its whole buffer, 4 KB for the shortest text, and this is kept.
    return cast("dict[str, Any]", arguments), bytes(memoryview(canonical))


def too_large(size: int, limit: int, how: str = "") -> ToolwrightError:
    """PAYLOAD_TOO_LARGE for arguments; `how` says in which form they came, and which is better."""
    return ToolwrightError(
        Reason.PAYLOAD_TOO_LARGE,
        f"the arguments have {size} bytes; at most {limit} are accepted{how and ' ' + how}",
        metadata={"size_bytes": str(size), "limit_bytes": str(limit), "outcome": "not_started"},
    )


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, cast("dict[str, Any]", value).values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, cast("list[Any]", value)))
    return not isinstance(value, float) or math.isfinite(value)


def _check_integers(text: str) -> None:
    def integer(digits: str) -> int:
        # Longer than 20 digits and a sign cannot fit: do not even convert it (int() of 4 MB of digits takes minutes).
        if len(digits) > 21 or not INTEGER_MIN <= int(digits) <= INTEGER_MAX:  # noqa: PLR2004
            raise invalid("arguments_json", "an integer lies outside -2^63 to 2^64-1")
        return 0

    json.loads(text, parse_int=integer)


def digest(tool: str, version: str, user: str, canonical: bytes) -> bytes:
    """SHA-256 that names a call: what it asks, of whom, for whom."""
    return hashlib.sha256(_head(tool, version, user) + canonical).digest()


@lru_cache(1_024)
def _head(*parts: str) -> bytes:
    """What the calls of one tool for one user have in common."""
    return b"".join(struct.pack(">I", len(part)) + part for part in map(str.encode, parts))
