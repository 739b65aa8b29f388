"""What names and labels of a call may be: short, and without characters that change what a log or a terminal shows."""

import re
from collections.abc import Mapping
from typing import Final

from toolwright_server.errors import ToolwrightError, invalid

TEXT_LIMIT: Final = 128
LABELS_LIMIT: Final = 32
LABEL_KEY_LIMIT: Final = 63
LABEL_VALUE_LIMIT: Final = 256

FIELDS: Final = (
    "tool",
    "tool_version",
    "request_id",
    "user_id",
    "session_id",
    "agent_id",
    "task_id",
    "parent_execution_id",
)
# Controls, and what ends a line or a paragraph. PostgreSQL could not even keep a NUL.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check(texts: tuple[str, str, str, str, str, str, str, str]) -> None:
    """The texts of FIELDS, in that order. Raises INVALID_ARGUMENTS."""
    if not texts[0]:
        raise invalid("call.tool", "is required")
    # All at once: nearly every call passes.
    if max(map(len, texts)) > TEXT_LIMIT or not "".join(texts).isprintable():
        for name, text in zip(FIELDS, texts, strict=True):
            _check_one(name, text)


def may_name(text: str) -> bool:
    """Whether an execution can have it as its id or its request id, so that it is worth looking for."""
    return 0 < len(text) <= TEXT_LIMIT and not _CONTROL.search(text)


def _check_one(name: str, text: str) -> None:
    if len(text) > TEXT_LIMIT:
        raise invalid(f"call.{name}", f"has more than {TEXT_LIMIT} characters")
    found = _CONTROL.search(text)
    if found:
        raise invalid(f"call.{name}", f"has a control character, at character {found.start()}")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises INVALID_ARGUMENTS."""
    if len(labels) > LABELS_LIMIT:
        raise invalid("call.labels", f"has {len(labels)} entries; at most {LABELS_LIMIT} are kept")
    for key, value in labels.items():
        if not 0 < len(key) <= LABEL_KEY_LIMIT or len(value) > LABEL_VALUE_LIMIT:
            raise _unfit(key, f"keys have 1 to {LABEL_KEY_LIMIT} characters, values at most {LABEL_VALUE_LIMIT}")
        if _CONTROL.search(key) or _CONTROL.search(value):
            raise _unfit(key, "has a control character in its key or its value")


def _unfit(key: str, why: str) -> ToolwrightError:
    return invalid(f"call.labels[{_CONTROL.sub('?', key[:LABEL_KEY_LIMIT])}]", why)
