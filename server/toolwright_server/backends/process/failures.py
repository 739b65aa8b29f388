"""What a worker's end means: the failure it reported, or the one that its death stands for."""

import signal
from typing import Any

import orjson

from toolwright_server.backends.forked.frames import Garbage
from toolwright_server.backends.invoke import storable, tools_logger
from toolwright_server.errors import Failure, Reason, Violation
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed

_KINDS = {"failed": ToolFailed, "lost": Lost, "refused": NotSent}

Ending = bytes | NotSent | ToolFailed | Lost


def reported(kind: str, payload: bytes, execution_id: str) -> NotSent | ToolFailed | Lost:
    """The failure in a worker's last frame; what only operators may read goes to the log. Raises Garbage."""
    try:
        said: dict[str, Any] = orjson.loads(payload)
        failure = Failure(
            reason=Reason[said["reason"]],
            message=str(said["message"]),
            user_message=str(said["user_message"]),
            suggested_action=str(said["suggested_action"]),
            retryable=said["retryable"],
            retry_delay=said["retry_delay"],
            metadata={str(key): str(value) for key, value in said["metadata"].items()},
            violations=[Violation(str(where), str(what)) for where, what in said["violations"]],
            admin_message=storable(str(said["admin_message"])),
        )
        detail = str(said["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise Garbage("a failure that is not understood") from None
    if detail:
        extra = {"execution_id": execution_id, "exception": detail}
        tools_logger.error("%s", failure.message, extra=extra)
    return _KINDS[kind](failure)


def crashed(tool: str, how: str) -> Lost:
    """The worker died, or had to."""
    return Lost(Failure(Reason.TOOL_CRASHED, f"the worker process that ran {tool} {how}"))


def death(status: int | None) -> str:
    """In words, from the status of waitpid; None when nobody saw it."""
    if status is None:
        return "died together with the fork server"
    if not status & 0x7F:
        return f"died: exited with code {status >> 8}"
    number = status & 0x7F
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    return f"died: killed by signal {number} ({name})"


def out_of_output(error: Exception) -> Lost:
    """Its output grew too large, so it was killed."""
    return Lost(Failure(Reason.OUTPUT_LIMIT, f"{error}; the tool was stopped"))


def unavailable(tool: str, why: str, retry_delay: float) -> NotSent:
    """No worker can be had for reasons that are not the caller's."""
    return NotSent(
        Failure(Reason.UPSTREAM_UNAVAILABLE, f"{tool} was not started: {why}", retry_delay=round(retry_delay, 3))
    )


def busy(tool: str, why: str, retry_delay: float) -> NotSent:
    """Every worker is busy, and the call may not wait."""
    return NotSent(
        Failure(
            Reason.CONCURRENCY_LIMITED,
            f"every worker process is busy, {why}: {tool} was not started",
            retry_delay=round(retry_delay, 3),
        )
    )
