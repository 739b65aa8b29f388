"""Tools that fail in every way a tool can: with words of its own, by an exception, by its answer, by its death."""

import os
import signal
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from toolwright_server import Effect, ToolError
from toolwright_server.toolkits.diagnostics.kit import toolkit

_EXIT_CODE = 3


@dataclass(frozen=True, slots=True)
class Promise:
    """What `fail` says that it returns and, asked for `output_invalid`, does not."""

    kept: bool


@toolkit.tool("fail", effect=Effect.READ_ONLY)
async def fail(
    *,
    kind: Literal["tool_error", "exception", "exit", "memory", "output_invalid"] = "tool_error",
    message: Annotated[str, Field(max_length=4096)] = "asked to fail",
    tool_reason: Annotated[str, Field(max_length=64)] = "ASKED_TO_FAIL",
    user_message: Annotated[str, Field(max_length=1024)] = "",
    suggested_action: Annotated[str, Field(max_length=1024)] = "",
    retryable: bool = False,
    retry_delay_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None,
) -> Promise:
    """Fails as asked, and never succeeds.

    Args:
        kind: `tool_error` fails with the words given below; `exception` raises a RuntimeError, `exit` SystemExit,
            `memory` MemoryError; `output_invalid` returns what the output schema forbids.
        message: Text of the error or exception; the text of an exception must not reach the caller.
        tool_reason: Machine-readable reason of a `tool_error`.
        user_message: Words for the end user, of a `tool_error`.
        suggested_action: What to do next, of a `tool_error`.
        retryable: Whether a `tool_error` says that the same call may succeed later.
        retry_delay_seconds: How long a `tool_error` asks to wait.
    """
    if kind == "exception":
        raise RuntimeError(message)
    if kind == "exit":
        sys.exit(message)
    if kind == "memory":
        raise MemoryError(message)
    if kind == "output_invalid":
        return Promise(kept=cast("Any", "not a boolean"))
    raise ToolError(
        message,
        reason=tool_reason,
        user_message=user_message,
        suggested_action=suggested_action,
        retryable=retryable,
        retry_delay=retry_delay_seconds,
    )


@toolkit.tool("crash", effect=Effect.READ_ONLY)
def crash(how: Literal["SIGABRT", "SIGSEGV", "SIGBUS", "SIGKILL", "SIGTERM", "exit"] = "SIGABRT") -> None:
    """Ends the process in which it runs, without an answer.

    Args:
        how: The signal that ends it, or `exit` for an orderly looking exit with code 3.
    """
    if how == "exit":
        os._exit(_EXIT_CODE)
    number = signal.Signals[how]
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
