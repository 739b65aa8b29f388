"""Turns a failed rpc or execution into words on standard error and an exit code. Never shows a traceback."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from toolwright.v1 import common_pb2
from toolwright_server.commands.exits import Exit, exit_of_execution, exit_of_status
from toolwright_server.commands.printing import printable

_DETAILS = "grpc-status-details-bin"
_EXECUTION_ID = "toolwright-execution-id"
_DOMAIN = "toolwright.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is told of a failure; empty texts are left out. `retry_seconds` None: not known, or no use."""

    code: Exit
    says: str
    reason: str = ""
    tool_reason: str = ""
    message: str = ""
    action: str = ""
    execution_id: str = ""
    request_id: str = ""
    retry_seconds: float | None = None
    # Why it was not tried again, and why nothing else answered.
    no_retry: str = ""
    fallback: str = ""
    violations: Sequence[tuple[str, str]] = field(default_factory=tuple[tuple[str, str], ...])

    def tell(self) -> Exit:
        """Print it; the exit code."""
        print(f"toolwright: {printable(self.says)}", file=sys.stderr)
        for where, what in self.violations:
            self._line(f"{where or 'arguments'}", what)
        told = {
            "reason": self.reason,
            "tool reason": self.tool_reason,
            "detail": self.message if self.message != self.says else "",
            "try": self.action,
        }
        told |= {"no retry": self.no_retry, "fallback": self.fallback}
        if self.retry_seconds is not None:
            told["retry"] = f"after {self.retry_seconds:g} s"
        told |= {"execution": self.execution_id, "request": self.request_id}
        for name, text in told.items():
            if text:
                self._line(name, text)
        return self.code

    @staticmethod
    def _line(name: str, text: str) -> None:
        print(f"  {printable(name)}: {printable(text)}", file=sys.stderr)


def of_execution(execution: common_pb2.Execution) -> Trouble:
    """For an execution that ended in any other state than SUCCEEDED."""
    error = execution.error
    return Trouble(
        code=exit_of_execution(execution),
        says=error.user_message or error.message or "The tool failed.",
        reason=error.reason,
        tool_reason=error.metadata.get("tool_reason", ""),
        message=error.message,
        action=error.suggested_action,
        execution_id=execution.execution_id,
        request_id=execution.request_id,
        retry_seconds=error.retry_delay.ToNanoseconds() / 1e9 if error.HasField("retry_delay") else None,
        no_retry=error.metadata.get("no_retry", ""),
        fallback=error.metadata.get("fallback", ""),
    )


def of_rpc(error: grpc.RpcError, *, request_id: str = "", execution_id: str = "") -> Trouble:
    """For a status, with our details or without. Non-empty ids: a tool may have been started by the call."""
    assert isinstance(error, grpc.Call)
    trailers = _trailers(error)
    execution_id = str(trailers.get(_EXECUTION_ID, execution_id))
    details = _details(trailers)
    if details is None:
        return _bare(error, request_id, execution_id)
    info, words, delay, violations = _unpacked(details)
    facts: Mapping[str, str] = info.metadata
    return Trouble(
        code=exit_of_status(details.code, facts.get("outcome", "")),
        says=words.message or details.message,
        reason=info.reason,
        message=details.message,
        action=facts.get("suggestedAction", ""),
        execution_id=execution_id or facts.get("execution_id", ""),
        request_id=request_id,
        retry_seconds=delay,
        no_retry=facts.get("no_retry", ""),
        fallback=facts.get("fallback", ""),
        violations=violations,
    )


def reason_of(error: grpc.RpcError) -> str:
    """Our reason, or nothing."""
    details = _details(_trailers(error)) if isinstance(error, grpc.Call) else None
    return "" if details is None else _unpacked(details)[0].reason


def _trailers(error: grpc.Call) -> dict[str, str | bytes]:
    # The stubs take one entry for the whole.
    return dict(cast("Sequence[tuple[str, str | bytes]]", tuple(error.trailing_metadata() or ())))


def _details(trailers: Mapping[str, str | bytes]) -> status_pb2.Status | None:
    """Ours, or nothing: a proxy's own details say nothing about a tool."""
    packed = trailers.get(_DETAILS)
    if not isinstance(packed, bytes):
        return None
    try:
        status = status_pb2.Status.FromString(packed)
    except DecodeError:
        return None
    info, *_ = _unpacked(status)
    return status if info.domain == _DOMAIN else None


def _unpacked(
    status: status_pb2.Status,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.LocalizedMessage, float | None, tuple[tuple[str, str], ...]]:
    info, words = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    delay, request = error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    delayed = False
    for packed in status.details:
        try:
            delayed = packed.Unpack(delay) or delayed
            _ = packed.Unpack(info) or packed.Unpack(words) or packed.Unpack(request)
        except DecodeError:
            continue
    seconds = delay.retry_delay.ToNanoseconds() / 1e9 if delayed else None
    return info, words, seconds, tuple((each.field, each.description) for each in request.field_violations)


def _bare(error: grpc.Call, request_id: str, execution_id: str) -> Trouble:
    """A status that is not ours: from gRPC itself, a proxy, or a server that died."""
    code: grpc.StatusCode = error.code()
    says = f"The call failed: {code.name}: {error.details() or 'no details'}"
    number = int(code.value[0])
    action = ""
    exits = exit_of_status(number, "")
    if code is grpc.StatusCode.UNAVAILABLE and request_id:
        # The connection stood when the call was sent.
        exits = Exit.OUTCOME_UNKNOWN
        says = f"The connection was lost during the call: {error.details()}"
        action = "Look it up with GetExecution by its request id; the tool may have run."
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        says = "The server at this address does not offer toolwright.v1."
    return Trouble(code=exits, says=says, action=action, execution_id=execution_id, request_id=request_id)
