"""What goes to standard output, for people or for programs. Never lets a tool's text steer the terminal."""

import json
import re
import sys
from typing import Any

# Control characters but for line ends and tabs: escape sequences could hide or forge what is on the screen.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def for_people(*, as_json: bool) -> bool:
    """Whether a person reads standard output, and did not ask for JSON."""
    return sys.stdout.isatty() and not as_json


def show_json(value: Any, *, people: bool) -> None:
    """One JSON value: indented and coloured for people, else on one line; at once, since a reader may wait for it."""
    if not people:
        print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), flush=True)
        return
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.json import JSON  # noqa: PLC0415

    Console().print(JSON.from_data(value, ensure_ascii=False), soft_wrap=True)
