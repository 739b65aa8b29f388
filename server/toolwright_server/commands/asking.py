"""From what was typed to the ToolCall that is sent. Raises UsageError with a sentence; never talks to a server."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration

from toolwright.v1 import common_pb2

_PRINTABLE = re.compile(r"[\x20-\x7e]+")


class UsageError(Exception):
    """What was typed cannot be meant; the text says what to type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The typed call. `timeout_seconds` is the deadline of the rpc, `tool_timeout_seconds` is `ToolCall.timeout`."""

    tool: str
    arguments: Sequence[str] = ()
    timeout_seconds: float | None = None
    tool_timeout_seconds: float | None = None
    request_id: str | None = None
    labels: Sequence[str] = ()
    detach: bool = False

    def call(self) -> common_pb2.ToolCall:
        """The message; a random request id where none was given, so that a lost call can be found."""
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds < float("inf"):
            raise UsageError(f"--timeout {self.timeout_seconds:g}: must be a positive number of seconds")
        call = common_pb2.ToolCall(
            tool=self.tool,
            arguments_json=arguments_json(self.arguments),
            request_id=self.request_id or uuid4().hex,
            detach_on_disconnect=self.detach,
            labels=dict(_pair(label, "--label") for label in self.labels),
        )
        if self.tool_timeout_seconds is not None:
            call.timeout.CopyFrom(_duration(self.tool_timeout_seconds))
        return call


def arguments_json(typed: Sequence[str]) -> str:
    """One JSON object: given as such, from standard input (`-`), or as `key=value` pairs."""
    if not typed:
        return "{}"
    if typed[0] == "-" or typed[0].lstrip().startswith(("{", "[")):
        if len(typed) > 1:
            raise UsageError(f"{typed[1]!r}: give one JSON object, or `-`, or key=value pairs, and only one of them")
        return _object(sys.stdin.read(), "standard input") if typed[0] == "-" else _object(typed[0], "the arguments")
    pairs: dict[str, Any] = {}
    for text in typed:
        key, value = _pair(text, "arguments")
        if key in pairs:
            raise UsageError(f"{key!r} is given twice; for a list write {key}='[1, 2]'")
        pairs[key] = _value(value)
    return json.dumps(pairs, ensure_ascii=False)


def _object(text: str, where: str) -> str:
    """The text itself: reading and writing it again could change numbers."""
    try:
        parsed: object = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: this is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise UsageError(f'{where}: must be a JSON object such as {{"name": "Ada"}}, not {text.strip()[:40]!r}')
    return text


def _value(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _pair(text: str, where: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"{where}: {text!r} is no key=value")
    return key, value


def _duration(seconds: float) -> Duration:
    if not 0 < seconds < 315_576_000_000:
        raise UsageError(f"--tool-timeout {seconds:g}: must be a positive number of seconds")
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def trace_headers(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """W3C trace context from TRACEPARENT and TRACESTATE, as build systems and shells pass it on."""
    if not environ.get("TRACEPARENT"):
        return ()
    names = ("TRACEPARENT", "TRACESTATE")
    # Metadata is printable ASCII; what is not would end the call before it is sent.
    return tuple((name.lower(), environ[name]) for name in names if _PRINTABLE.fullmatch(environ.get(name, "")))
