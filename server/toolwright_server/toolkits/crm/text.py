"""Turns what callers write into the form that is kept: names, addresses, numbers, tags, attributes.

Raises the ToolErrors of `failures.invalid`, each of which says what would be right.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from toolwright_server.toolkits.crm.failures import invalid
from toolwright_server.toolkits.crm.tables import ATTRIBUTES_LIMIT_BYTES, EMAIL_LIMIT, TAG_LIMIT

_LOCAL_LIMIT = 64
_KEY_LIMIT = 64
_KEYS_LIMIT = 64
_DEPTH_LIMIT = 32
_SEARCHED_LIMIT = 4096
_UNSAFE = r"\s@,;:<>()\[\]\\\"\x00-\x1f\x7f-\x9f"
_EMAIL = re.compile(rf"([^{_UNSAFE}]+)@((?:[^{_UNSAFE}.]+\.)+[^{_UNSAFE}.]+)")
_PHONE_PUNCTUATION = re.compile(r"[ ()./\u00a0-]")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")


def folded(text: str) -> str:
    """For comparing: the same for texts that differ in case, width or composition only."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def one_line(field: str, text: str, most: int) -> str:
    """Without outer and doubled blanks; neither empty, longer than `most` characters, nor with control characters."""
    clean = " ".join(unicodedata.normalize("NFC", text).split())
    if not clean or len(clean) > most:
        raise invalid(field, f"must have 1 to {most} characters", f"Give a {field} of 1 to {most} characters.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in clean):
        raise invalid(field, "holds control characters", f"Give the {field} as one line of plain text.")
    return clean


def email_address(text: str) -> str:
    """The address, its domain in lower case."""
    found = _EMAIL.fullmatch(unicodedata.normalize("NFC", text.strip()))
    if found is None or len(found[0]) > EMAIL_LIMIT or len(found[1]) > _LOCAL_LIMIT:
        raise invalid("email", "is not an email address", "Give an address of the form name@example.com.")
    return f"{found[1]}@{found[2].lower()}"


def phone_number(text: str) -> str | None:
    """`+` and 7 to 15 digits (E.164); None for an empty text."""
    bare = _PHONE_PUNCTUATION.sub("", text.strip())
    if not bare:
        return None
    if _PHONE.fullmatch(bare) is None:
        raise invalid(
            "phone",
            "must be + and 7 to 15 digits, country code first",
            "Give the number in international form, such as +49 30 1234567; ask for the country if it is not known.",
        )
    return bare


def tag_name(text: str) -> str:
    """In lower case, on one line."""
    return one_line("tag", folded(text), TAG_LIMIT)


def checked_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Refuses what is too large or has unfit keys."""
    if len(attributes) > _KEYS_LIMIT:
        raise invalid("attributes", f"more than {_KEYS_LIMIT} keys", "Keep fewer attributes; null removes one.")
    for key in attributes:
        if not 0 < len(key) <= _KEY_LIMIT:
            raise invalid("attributes", "an empty or overlong key", f"Use keys of 1 to {_KEY_LIMIT} characters.")
    if _deeper_than(_DEPTH_LIMIT, attributes):
        raise invalid("attributes", f"nested deeper than {_DEPTH_LIMIT} levels", "Keep the attributes flat.")
    size = len(as_json(attributes).encode())
    if size > ATTRIBUTES_LIMIT_BYTES:
        raise invalid(
            "attributes",
            f"{size} bytes as JSON, {ATTRIBUTES_LIMIT_BYTES} at most",
            "Keep less in the attributes, or a reference to what is kept elsewhere.",
        )
    return dict(attributes)


def as_json(value: Any) -> str:
    """The text that is kept, which is also what is measured."""
    return json.dumps(value, ensure_ascii=False)


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Merge Patch (RFC 7386): null removes a key, objects are merged, all else replaces."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            base = cast("dict[str, Any]", old) if isinstance(old, dict) else {}
            result[key] = merged(base, cast("dict[str, Any]", value))
        else:
            result[key] = value
    return result


def search_text(name: str, email: str, phone: str | None, attributes: Mapping[str, Any]) -> str:
    """What a search looks through: name, address, number and the attributes' texts and numbers, folded."""
    parts = [name, email, phone or "", *_words(attributes)]
    return folded("\n".join(parts)[:_SEARCHED_LIMIT])


def _deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit):
        level = [part for outer in level for part in _parts(outer)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    for part in _parts(value):
        yield from _words(part)
