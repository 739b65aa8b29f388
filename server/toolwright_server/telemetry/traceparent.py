"""The W3C `traceparent` header, read strictly and written.

Source: https://www.w3.org/TR/trace-context-2/. Never repairs: a header that is not exactly right means a new trace.
"""

import re
from typing import NamedTuple

# Version ff is forbidden, as are ids of zeros only; version 00 ends after the flags, later ones may go on with "-".
_HEADER = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL
)
_match = _HEADER.fullmatch

SAMPLED = 0x01
RANDOM = 0x02
"""The trace id's low 56 bits are random (W3C level 2); passed on from the parent, set for traces that start here."""


class RemoteParent(NamedTuple):
    """The caller's span: ids as lower-case hex, flags as in the header (known bits only)."""

    trace_id: str
    span_id: str
    flags: int


def parse(header: str | None) -> RemoteParent | None:
    """The parent that a `traceparent` header names, or None when it is absent or breaks the format."""
    if header is None:
        return None
    found = _match(header)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if rest is not None and version == "00":
        return None
    return RemoteParent(trace_id, span_id, int(flags, 16) & (SAMPLED | RANDOM))


def render(trace_id: str, span_id: str, flags: int) -> str:
    """The header's text, version 00."""
    return f"00-{trace_id}-{span_id}-{flags:02x}"
