"""From what was typed to the ToolCall that is sent. Raises UsageError with a sentence; never talks to a server."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from uuid import uuid4

from toolwright.v1 import common_pb2
from toolwright_server.credits import micros

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
# gRPC counts nanoseconds from 1970 in 64 bits and takes what lies beyond for past.
_LONGEST_SECONDS = 1e9
# The contract's, see `ToolCall.max_attempts`.
_MOST_ATTEMPTS = 100


CACHE_MODES: Final = {
    "default": common_pb2.CACHE_MODE_DEFAULT,
    "bypass": common_pb2.CACHE_MODE_BYPASS,
    "refresh": common_pb2.CACHE_MODE_REFRESH,
}


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
    # One of CACHE_MODES.
    cache_mode: str = ""
    # For whom, and of which task, session and agent the call is.
    user: str = ""
    task: str = ""
    session: str = ""
    agent: str = ""
    max_attempts: int | None = None
    # In credits.
    max_cost: str | None = None
    allow_fallback: bool | None = None

    def call(self) -> common_pb2.ToolCall:
        """The message; a random request id where none was given, so that a lost call can be found."""
        check_seconds("--timeout", self.timeout_seconds)
        check_seconds("--tool-timeout", self.tool_timeout_seconds)
        call = common_pb2.ToolCall(
            tool=text(self.tool, "the tool"),
            arguments_json=text(arguments_json(self.arguments), "the arguments"),
            request_id=text(self.request_id or uuid4().hex, "--request-id"),
            detach_on_disconnect=self.detach,
            labels=dict(_pair(text(label, "--label"), "--label") for label in self.labels),
        )
        if self.cache_mode:
            if self.cache_mode not in CACHE_MODES:
                raise UsageError(f"--cache-mode {self.cache_mode}: must be one of {', '.join(CACHE_MODES)}")
            call.cache_mode = CACHE_MODES[self.cache_mode]
        if self.tool_timeout_seconds is not None:
            call.timeout.FromNanoseconds(round(self.tool_timeout_seconds * 1e9))
        call.user_id, call.task_id = text(self.user, "--user"), text(self.task, "--task")
        call.session_id, call.agent_id = text(self.session, "--session"), text(self.agent, "--agent")
        self._narrow(call)
        return call

    def _narrow(self, call: common_pb2.ToolCall) -> None:
        """What the call may take of what its tool allows."""
        if self.max_attempts is not None:
            if not 1 <= self.max_attempts <= _MOST_ATTEMPTS:
                raise UsageError(f"--max-attempts {self.max_attempts}: must be from 1 to {_MOST_ATTEMPTS}")
            call.max_attempts = self.max_attempts
        if self.max_cost is not None:
            try:
                call.max_cost_micros = micros(self.max_cost)
            except ValueError as error:
                raise UsageError(f"--max-cost: {error}") from None
        if self.allow_fallback is not None:
            call.allow_fallback = self.allow_fallback


def text(typed: str, where: str) -> str:
    """What was typed, if it can be sent: bytes that are not UTF-8 and halves of characters cannot."""
    try:
        typed.encode()
    except UnicodeEncodeError as error:
        begin = max(0, error.start - 10)
        raise UsageError(f"{where}: {typed[begin : error.end]!r} is not text in UTF-8") from None
    return typed


def arguments_json(typed: Sequence[str]) -> str:
    """One JSON object: given as such, from standard input (`-`), or as `key=value` pairs."""
    if not typed:
        return "{}"
    if typed[0] == "-" or typed[0].lstrip().startswith(("{", "[")):
        if len(typed) > 1:
            raise UsageError(f"{typed[1]!r}: give one JSON object, or `-`, or key=value pairs, and only one of them")
        return _object(_read(), "standard input") if typed[0] == "-" else _object(typed[0], "the arguments")
    pairs: dict[str, Any] = {}
    for each in typed:
        key, value = _pair(each, "arguments")
        if key in pairs:
            raise UsageError(f"{key!r} is given twice; for a list write {key}='[1, 2]'")
        pairs[key] = _value(value)
    return json.dumps(pairs, ensure_ascii=False)


def _read() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input: is not text in {error.encoding.upper()}") from None


def _object(typed: str, where: str) -> str:
    """The text itself: reading and writing it again could change numbers."""
    try:
        parsed: object = json.loads(typed, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: this is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise UsageError(f'{where}: must be a JSON object such as {{"name": "Ada"}}, not {typed.strip()[:40]!r}')
    return typed


def _value(typed: str) -> object:
    try:
        return json.loads(typed, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return typed


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _pair(typed: str, where: str) -> tuple[str, str]:
    key, separator, value = typed.partition("=")
    if not separator or not key:
        raise UsageError(f"{where}: {typed!r} is no key=value")
    return key, value


def check_seconds(option: str, seconds: float | None) -> None:
    """Raises UsageError unless it is a length of time."""
    if seconds is not None and not 0 < seconds <= _LONGEST_SECONDS:
        raise UsageError(f"{option} {seconds:g}: must be a positive number of seconds, at most {_LONGEST_SECONDS:g}")


def trace_headers(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """W3C trace context from TRACEPARENT and TRACESTATE, as build systems and shells pass it on."""
    if not environ.get("TRACEPARENT"):
        return ()
    names = ("TRACEPARENT", "TRACESTATE")
    # Metadata is printable ASCII; what is not would end the call before it is sent.
    return tuple((name.lower(), environ[name]) for name in names if _PRINTABLE.fullmatch(environ.get(name, "")))
