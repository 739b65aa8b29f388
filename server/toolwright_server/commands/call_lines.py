"""Calls as lines of JSON, one each, as `exec --batch` takes them. Raises UsageError that names the line."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast
from uuid import uuid4

from toolwright.v1 import common_pb2
from toolwright_server.commands.asking import Ask, UsageError

MOST = 100
_SPACE = re.compile(r"[ \t\r\n]*")


def calls(file: str, ask: Ask) -> tuple[str, list[common_pb2.ToolCall]]:
    """The calls of a file (`-`: standard input), and how the request ids of those begin that name none.

    `ask` says what holds for every line that does not say otherwise.
    """
    prefix = uuid4().hex
    found: list[common_pb2.ToolCall] = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        if len(found) == MOST:
            raise UsageError(f"{_name(file)}, line {number}: a batch has at most {MOST} calls; split the file")
        try:
            found.append(_call(line, replace(ask, request_id=f"{prefix}-{number}")))
        except UsageError as error:
            raise UsageError(f"{_name(file)}, line {number}: {error}") from None
    if not found:
        raise UsageError(f"{_name(file)}: there is no call in it")
    return prefix, found


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def _lines(file: str) -> list[str]:
    try:
        # Not splitlines(): JSON may hold other characters that Unicode takes for the end of a line.
        return (sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")).split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{_name(file)}: is not text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None


def _call(line: str, ask: Ask) -> common_pb2.ToolCall:
    labels: dict[str, str] = {}
    for key, (value, typed) in _members(line).items():
        check, wanted = _KEYS.get(key, (_never, f"is not known; there are {', '.join(_KEYS)}"))
        if not check(value):
            raise UsageError(f"{key}: {wanted}")
        match key:
            case "arguments":
                # As it was typed: reading and writing it again could change numbers.
                ask = replace(ask, arguments=[typed])
            case "labels":
                labels = value
            case "tool_timeout":
                ask = replace(ask, tool_timeout_seconds=value)
            case _:
                ask = replace(ask, **{key: value})
    if not ask.tool:
        raise UsageError('tool: is required, as in {"tool": "crm.contact.get", "arguments": {"id": 1}}')
    call = ask.call()
    call.labels.update(labels)
    return call


def _members(line: str) -> dict[str, tuple[Any, str]]:
    """Each value of a JSON object with the text that it was read from."""
    try:
        whole: object = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this is no JSON: {error}") from None
    if not isinstance(whole, dict):
        raise UsageError(f"must be a JSON object, not {line.strip()[:40]!r}")
    found: dict[str, tuple[Any, str]] = {}
    for key, value, typed in _scanned(line):
        if key in found:
            raise UsageError(f"{key}: is given twice")
        found[key] = value, typed
    return found


def _scanned(line: str) -> Iterator[tuple[str, Any, str]]:
    """The members of an object that is known to be right."""
    decoder = json.JSONDecoder()

    def solid(at: int) -> int:
        space = _SPACE.match(line, at)
        return at if space is None else space.end()

    at = solid(line.index("{") + 1)
    while line[at] != "}":
        key, at = decoder.raw_decode(line, at)
        begin = solid(solid(at) + 1)
        value, end = decoder.raw_decode(line, begin)
        yield key, value, line[begin:end]
        at = solid(end)
        at = solid(at + 1) if line[at] == "," else at


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _labels(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in cast("dict[str, object]", value).values())


def _never(value: object) -> bool:
    del value
    return False


# What a line may say, and what it must be.
_KEYS: dict[str, tuple[Callable[[object], bool], str]] = {
    "tool": (_text, "must be the name of a tool"),
    "arguments": (lambda value: isinstance(value, dict), "must be an object"),
    "request_id": (_text, "must be a text that is not empty"),
    "tool_timeout": (_number, "must be a number of seconds"),
    "labels": (_labels, "must be an object of texts"),
    "detach": (lambda value: isinstance(value, bool), "must be true or false"),
}
