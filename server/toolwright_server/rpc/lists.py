"""What every List rpc shares: page sizes, and opaque page tokens bound to what was asked."""

import base64
import binascii
import hashlib

from toolwright_server.errors import invalid

PAGE_LIMIT = 1_000


def page_size(asked: int, default: int) -> int:
    """The number of entries to answer. Raises INVALID_ARGUMENTS outside 0..1,000."""
    if not 0 <= asked <= PAGE_LIMIT:
        raise invalid("page_size", f"{asked} lies outside 1 to {PAGE_LIMIT}")
    return asked or default


def page_token(last: str, *asked: str) -> str:
    """A token that continues behind the entry `last`; `asked` are the rpc and what it was asked for."""
    return base64.urlsafe_b64encode(_seal(asked) + last.encode()).decode()


def page_start(token: str, *asked: str) -> str:
    """The entry behind which the page begins; empty for the first page. Raises INVALID_ARGUMENTS."""
    if not token:
        return ""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        seal, last = raw[:8], raw[8:].decode()
    except (binascii.Error, ValueError):
        raise invalid("page_token", "is not one that this server gave out") from None
    if seal != _seal(asked):
        raise invalid("page_token", "belongs to another list or filter; repeat the request of the first page")
    return last


def _seal(asked: tuple[str, ...]) -> bytes:
    # Their lengths tell where one ends and the next begins.
    text = "".join(f"{len(each)}:{each}" for each in asked)
    return hashlib.sha256(text.encode()).digest()[:8]
