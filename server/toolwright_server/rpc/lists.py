"""What every List rpc shares: page sizes, opaque page tokens bound to their filter, and the filter's small grammar.

The grammar is a subset of AIP-160: `field = "value"` joined by ` AND `.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Collection

from toolwright_server.errors import invalid

PAGE_LIMIT = 1_000
FILTER_LIMIT = 4_096
_CONDITION = re.compile(r'\s*([a-z_]+(?:\.[A-Za-z0-9_./-]+)?)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s"]+)\s*')
_AND = re.compile(r"AND\b")


def page_size(asked: int, default: int) -> int:
    """The number of entries to answer. Raises INVALID_ARGUMENTS outside 0..1,000."""
    if not 0 <= asked <= PAGE_LIMIT:
        raise invalid("page_size", f"{asked} lies outside 1 to {PAGE_LIMIT}")
    return asked or default


def page_token(last: str, filter_text: str) -> str:
    """A token that continues behind the entry `last`."""
    return base64.urlsafe_b64encode(_seal(filter_text) + last.encode()).decode()


def page_start(token: str, filter_text: str) -> str:
    """The entry behind which the page begins; empty for the first page. Raises INVALID_ARGUMENTS."""
    if not token:
        return ""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        seal, last = raw[:8], raw[8:].decode()
    except (binascii.Error, ValueError):
        raise invalid("page_token", "is not one that this server gave out") from None
    if seal != _seal(filter_text):
        raise invalid("page_token", "belongs to another filter; repeat the filter of the first page")
    return last


def parse_filter(text: str, fields: Collection[str]) -> dict[str, str]:
    """Conditions of a filter by field; `labels.KEY` is always allowed. Raises INVALID_ARGUMENTS naming the place."""
    if len(text) > FILTER_LIMIT:
        raise invalid("filter", f"has {len(text)} characters; at most {FILTER_LIMIT} are accepted")
    conditions: dict[str, str] = {}
    position = 0
    while text[position:].strip():
        if conditions:
            joined = _AND.match(text, position)
            if joined is None:
                raise invalid("filter", f"expected AND at character {position}: {text[position : position + 24]!r}")
            position = joined.end()
        found = _CONDITION.match(text, position)
        if found is None:
            raise invalid(
                "filter", f'expected field = "value" at character {position}: {text[position : position + 24]!r}'
            )
        field, value = found.groups()
        if field not in fields and not field.startswith("labels."):
            raise invalid("filter", f"{field} cannot be filtered by; use {', '.join(fields)} or labels.KEY")
        if field in conditions:
            raise invalid("filter", f"{field} is named twice")
        conditions[field] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        position = found.end()
    return conditions


def split_labels(conditions: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The conditions on fields, and those on labels without their prefix."""
    labels = {key.removeprefix("labels."): value for key, value in conditions.items() if key.startswith("labels.")}
    return {key: value for key, value in conditions.items() if not key.startswith("labels.")}, labels


def _seal(filter_text: str) -> bytes:
    return hashlib.sha256(filter_text.encode()).digest()[:8]
