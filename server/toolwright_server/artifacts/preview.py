"""The first lines of an artifact, if it is text."""

from typing import Final

LINES: Final = 10
CHARACTERS: Final = 1_024
# Enough for as many characters of any language, and one that is cut.
HEAD_BYTES: Final = 4 * CHARACTERS + 4
_UTF8_LONGEST: Final = 4


def preview(head: bytes, *, is_whole: bool) -> str:
    """At most ten lines and 1,024 characters of what begins with `head`; empty if that is no text in UTF-8."""
    text = _decoded(head, is_whole=is_whole)
    if not text or any(character < " " and character not in "\t\n\r\f" for character in text):
        return ""
    return "".join(text[:CHARACTERS].splitlines(keepends=True)[:LINES])


def _decoded(head: bytes, *, is_whole: bool) -> str:
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        if is_whole or len(head) - error.start >= _UTF8_LONGEST or error.reason != "unexpected end of data":
            return ""
        return head[: error.start].decode()
