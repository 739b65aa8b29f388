"""What every way to run a Python function shares: arguments in, the answer as JSON out, exceptions into failures.

Runs in the server and in worker processes, so it imports neither asyncio nor anything of the executor's.
"""

import json
import logging
import math
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pydantic
from pydantic_core import PydanticSerializationError, to_jsonable_python

from toolwright_server.artifacts.model import ArtifactRefused
from toolwright_server.backends.reports import clean
from toolwright_server.backends.unfit import holds_iterator, unfit
from toolwright_server.catalog.context import ToolCallError, ToolError
from toolwright_server.catalog.functions import FunctionTarget
from toolwright_server.catalog.model import Tool
from toolwright_server.errors import Failure, Reason, Violation

MESSAGE_LIMIT = 4_096
ADMIN_LIMIT = 4_096
_WORDS_LIMIT = 1_024
_METADATA_LIMIT = 32
_VIOLATIONS_LIMIT = 20
_TYPE_NAME_LIMIT = 100
# Longer ones say no more, and some cannot be sent.
_DELAY_LIMIT_SECONDS = 86_400
_TRACEBACK_LIMIT = 16_384
# What holds nothing else.
_PLAIN = frozenset({str, int, float, bool, type(None)})
# Texts of these two come from exceptions that the tool's own checks raised.
_OWN_CHECKS = ("value_error", "assertion_error")

tools_logger = logging.getLogger("toolwright.tools")


class Refused(Exception):
    """The arguments passed the schema and not the Python types: the function was not called."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class BadAnswer(Exception):
    """The tool returned what cannot be its answer. `detail` may hold parts of the value: for the server's log only."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.detail = detail


def target_of(tool: Tool) -> FunctionTarget:
    """The function behind a tool."""
    assert isinstance(tool.target, FunctionTarget), f"{tool.name} is not a Python function"
    return tool.target


def bind(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the function. Raises Refused."""
    try:
        return target_of(tool).signature.bind(arguments)
    except pydantic.ValidationError as error:
        raise Refused(_refusal(tool, error)) from None


def answer(tool: Tool, value: Any, limit: int) -> bytes:
    """The value as JSON text of at most `limit` bytes. Raises BadAnswer."""
    result = target_of(tool).signature.result
    if result is not None:
        if type(value) not in _PLAIN and holds_iterator(value):
            raise _no_json(tool, value, "an iterator")
        try:
            value = result.dump_python(value, mode="json", by_alias=True, warnings=False)
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise _no_json(tool, value, str(error)) from None
    text = _encoded(tool, value)
    if len(text) > limit:
        message = f"the answer of {tool.name} has {len(text)} bytes, {limit} are allowed"
        raise BadAnswer(Failure(Reason.OUTPUT_LIMIT, message, metadata={"limit_bytes": str(limit)}))
    schema = tool.output_schema
    if schema is not None and not schema.accepts(value):
        raise _forbidden(tool, value)
    return text


def _encoded(tool: Tool, value: Any) -> bytes:
    try:
        text = orjson.dumps(value)
    except TypeError:
        # Pydantic would read an iterator to its end, and it may have none.
        if holds_iterator(value):
            raise _no_json(tool, value, "an iterator") from None
        try:
            value = to_jsonable_python(value, by_alias=True)
            text = orjson.dumps(value)
        except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
            raise _no_json(tool, value, str(error)) from None
    # orjson writes NaN as null: that would be another value.
    if b"null" in text and _has_nan(value):
        raise _no_json(tool, value, "not a finite number")
    # A copy of its own size: orjson hands out its whole buffer, 4 KB for the shortest text, and results are kept.
    return bytes(memoryview(text))


def _has_nan(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False, default=to_jsonable_python, skipkeys=True)
    except ValueError:
        return True
    return False


def _no_json(tool: Tool, value: Any, detail: str) -> BadAnswer:
    path, wrong = unfit(value) or ("", "has no JSON form")
    message = f"the answer of {tool.name}{f' at {path}' if path else ''} {wrong}"
    return BadAnswer(Failure(Reason.OUTPUT_INVALID, clean(message, MESSAGE_LIMIT)), "" if tool.has_secrets else detail)


def _forbidden(tool: Tool, value: Any) -> BadAnswer:
    assert tool.output_schema is not None
    violations = tool.output_schema.violations(value)
    places = ", ".join(dict.fromkeys(each.field for each in violations if each.field))
    message = f"the answer of {tool.name} breaks its output schema{f' at {places}' if places else ''}"
    # What may not be quoted need not be marked in this schema: the answer may hold what came in.
    detail = "" if tool.has_secrets else "; ".join(f"{each.field}: {each.description}" for each in violations)
    return BadAnswer(Failure(Reason.OUTPUT_INVALID, clean(message, MESSAGE_LIMIT)), detail)


def failure_of(tool: str, error: BaseException) -> Failure:
    """What callers hear of an exception that a tool raised: its own words if it is a ToolError, else its type."""
    try:
        return _described(tool, error)
    except Exception:  # noqa: BLE001 (the exception is the tool's own, and so is what its attributes do when they are read)
        return Failure(Reason.TOOL_FAILED, f"{tool} raised an exception that cannot be described")


def _described(tool: str, error: BaseException) -> Failure:
    if isinstance(error, BadAnswer | ArtifactRefused):
        return error.failure
    if isinstance(error, ToolError):
        return _own_words(error)
    if isinstance(error, ToolCallError):
        return Failure(
            Reason.TOOL_FAILED,
            clean(f"a nested call of {tool} failed: {error.message}", MESSAGE_LIMIT),
            retryable=bool(error.retryable),
            metadata={"nested_reason": clean(error.reason, _WORDS_LIMIT)},
        )
    if isinstance(error, MemoryError):
        return Failure(Reason.MEMORY_LIMIT, f"{tool} needed more memory than it may have")
    return Failure(Reason.TOOL_FAILED, clean(f"{tool} raised {type(error).__name__[:_TYPE_NAME_LIMIT]}", MESSAGE_LIMIT))


def for_operators(tool: Tool, error: BaseException) -> str:
    """What the server's log says of an exception beyond its failure; empty when that says all.

    For a tool with secrets only where it happened, and types: an exception's text often quotes what it was given.
    """
    if isinstance(error, BadAnswer):
        return error.detail
    if is_own_words(error):
        return ""
    told = _places(error) if tool.has_secrets else _in_full(error)
    return told[-_TRACEBACK_LIMIT:]


def admin_message(tool: Tool, error: BaseException) -> str:
    """The end of the same, as the record keeps it: of a tool that keeps no payloads, nothing that may quote them.

    Never raises.
    """
    if tool.keep_arguments and tool.keep_result:
        told = for_operators(tool, error)
    else:
        told = "" if isinstance(error, BadAnswer) or is_own_words(error) else _places(error)
    return storable(told)


def failure_in_full(tool: Tool, error: BaseException) -> Failure:
    """The failure of `failure_of`, with what operators are told."""
    return replace(failure_of(tool.name, error), admin_message=admin_message(tool, error))


def storable(told: str) -> str:
    """The end of it, at most ADMIN_LIMIT characters, as any database takes it: PostgreSQL has no U+0000."""
    return clean(told.strip()[-ADMIN_LIMIT:].replace("\0", "\N{REPLACEMENT CHARACTER}"), ADMIN_LIMIT)


def _in_full(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 (attributes of the tool's own exceptions are read, which may do anything)
        return _places(error)


def _places(error: BaseException) -> str:
    told: list[str] = []
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        told.append("".join((*traceback.format_tb(each.__traceback__), type(each).__qualname__, "\n")))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "after:\n".join(told)


def is_own_words(error: BaseException) -> bool:
    """Whether the failure says all there is to say, so that no traceback is logged."""
    return isinstance(error, ToolError | ArtifactRefused)


def vouches(error: BaseException) -> bool:
    """Whether the tool itself says that nothing was sent."""
    return isinstance(error, ToolError) and getattr(error, "nothing_sent", False) is True


def _own_words(error: ToolError) -> Failure:
    metadata = {
        clean(key, _WORDS_LIMIT): clean(value, _WORDS_LIMIT)
        for key, value in list(error.metadata.items())[:_METADATA_LIMIT]
    }
    if error.reason:
        metadata["tool_reason"] = clean(error.reason, _WORDS_LIMIT)
    return Failure(
        Reason.TOOL_FAILED,
        clean(error.message, MESSAGE_LIMIT),
        user_message=clean(error.user_message, _WORDS_LIMIT),
        suggested_action=clean(error.suggested_action, _WORDS_LIMIT),
        retryable=bool(error.retryable),
        retry_delay=_seconds(error.retry_delay),
        metadata=metadata,
    )


def _seconds(value: object) -> float | None:
    if isinstance(value, int):
        value = min(value, _DELAY_LIMIT_SECONDS)  # may be beyond what a float holds
    if not isinstance(value, int | float) or not math.isfinite(max(value, 0)):
        return None
    return float(min(max(value, 0), _DELAY_LIMIT_SECONDS))


def _refusal(tool: Tool, error: pydantic.ValidationError) -> Failure:
    found: list[Violation] = []
    for each in error.errors(include_url=False, include_input=False, include_context=False)[:_VIOLATIONS_LIMIT]:
        hidden = tool.has_secrets or each["type"] in _OWN_CHECKS
        words = "is refused by the tool's own check" if hidden else each["msg"]
        found.append(Violation(_path(each["loc"]), clean(words, _WORDS_LIMIT)))
    first = found[0]
    where = f" at {first.field}" if first.field else ""
    message = f"{tool.name} does not accept the arguments{where}: {first.description}"
    return Failure(Reason.INVALID_ARGUMENTS, clean(message, MESSAGE_LIMIT), violations=found)


def _path(parts: tuple[int | str, ...]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
