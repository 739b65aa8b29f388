"""Rebuilds exceptions from gRPC statuses and from errors inside executions. It decides nothing about retries."""

from dataclasses import replace
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from toolwright_client import errors
from toolwright_client.model import NOT_STARTED, UNKNOWN, Execution, Failure, State, Violation

DETAILS = "grpc-status-details-bin"
PUSHBACK = "grpc-retry-pushback-ms"
EXECUTION_ID = "toolwright-execution-id"
DOMAIN = "toolwright.v1"
ACTION = "suggestedAction"
# The reasons that the client itself gives.
CLIENT_DEADLINE = "CLIENT_DEADLINE"
NOT_CONNECTED = "NOT_CONNECTED"
CONNECTION_LOST = "CONNECTION_LOST"
MAX_MESSAGE = 1000

Detail = TypeVar("Detail", bound=Message)

BY_REASON: dict[str, type[errors.ToolwrightError]] = {
    "INVALID_ARGUMENTS": errors.InvalidArguments,
    "TOOL_NOT_FOUND": errors.ToolNotFound,
    "RESOURCE_NOT_FOUND": errors.ExecutionNotFound,
    "REQUEST_ID_REUSED": errors.RequestIdReused,
    "TOOL_DISABLED": errors.ToolDisabled,
    "INVALID_STATE": errors.InvalidState,
    "BATCH_STOPPED": errors.BatchStopped,
    "APPROVAL_REQUIRED": errors.ApprovalRequired,
    "RATE_LIMITED": errors.RateLimited,
    "CONCURRENCY_LIMITED": errors.ConcurrencyLimited,
    "BUDGET_EXCEEDED": errors.BudgetExceeded,
    "INSUFFICIENT_CREDITS": errors.InsufficientCredits,
    "PAYLOAD_TOO_LARGE": errors.PayloadTooLarge,
    "TOOL_TIMEOUT": errors.ToolTimedOut,
    "CANCELLED": errors.ExecutionCancelled,
    "ETAG_MISMATCH": errors.EtagMismatch,
    "OUTCOME_UNKNOWN": errors.OutcomeUnknown,
    "SLOW_CONSUMER": errors.SlowConsumer,
    "EVENTS_EXPIRED": errors.EventsExpired,
    NOT_CONNECTED: errors.NotConnected,
    CONNECTION_LOST: errors.ConnectionLost,
    "SERVER_DRAINING": errors.ServerDraining,
    "UPSTREAM_UNAVAILABLE": errors.UpstreamUnavailable,
    "CIRCUIT_OPEN": errors.CircuitOpen,
    "STORE_UNAVAILABLE": errors.StoreUnavailable,
    "RECORD_FAILED": errors.RecordFailed,
}
BY_CODE: dict[grpc.StatusCode, type[errors.ToolwrightError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.RequestIdReused,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.Forbidden,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionFailed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitReached,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.ExecutionCancelled,
    grpc.StatusCode.ABORTED: errors.Aborted,
    grpc.StatusCode.OUT_OF_RANGE: errors.EventsExpired,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
}
# A bare status that came after sending leaves open what the tool did; these codes are refusals in any case.
REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def code_of(number: int) -> grpc.StatusCode:
    """The code with this number; UNKNOWN for one that does not exist."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def error_of(failure: Failure, *, request_id: str = "", execution: Execution | None = None) -> errors.ToolwrightError:
    """The exception for a failure: by its reason, or else by its code."""
    kind = BY_REASON.get(failure.reason) or BY_CODE.get(failure.code, errors.ServerError)
    return kind(failure, request_id=request_id, execution=execution)


def error_of_execution(execution: Execution) -> errors.ToolwrightError:
    """The exception for an execution that ended in any other state than SUCCEEDED."""
    failure = execution.error or Failure(
        code=grpc.StatusCode.UNKNOWN, message=f"execution {execution.execution_id} ended {execution.state}"
    )
    if execution.state is State.FAILED:
        return errors.ToolFailed(failure, request_id=execution.request_id, execution=execution)
    return error_of(failure, request_id=execution.request_id, execution=execution)


def error_of_rpc(error: grpc.aio.AioRpcError, *, request_id: str = "") -> errors.ToolwrightError:
    """The exception for a status, with our details or without (a proxy's, a dead server's, gRPC's own)."""
    details = _details(error)
    failure = _bare(error) if details is None else _failure(error.code(), error.details() or "", details)
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK:
            failure = _pushed_back(failure, str(value))
        elif key == EXECUTION_ID:
            failure = replace(failure, metadata={"execution_id": str(value), **failure.metadata})
    return error_of(failure, request_id=request_id)


def _pushed_back(failure: Failure, milliseconds: str) -> Failure:
    """Pushback outweighs RetryInfo: a negative one, or one that is no number, says never again."""
    delay = int(milliseconds) / 1000 if milliseconds.isascii() and milliseconds.isdigit() else None
    return replace(failure, retryable=delay is not None, retry_delay=delay)


def after_doubt(error: errors.ToolwrightError, execution_id: str = "") -> errors.ToolwrightError:
    """The same error for a call of which an earlier try may have run: that this one was not started proves nothing."""
    failure = doubted(error.failure, execution_id)
    if failure is error.failure:
        return error
    return error_of(failure, request_id=error.request_id, execution=error.execution)


def doubted(failure: Failure, execution_id: str = "") -> Failure:
    """The same of a failure."""
    if failure.metadata.get("outcome") != NOT_STARTED:
        return failure
    metadata = {**failure.metadata, "outcome": UNKNOWN}
    if execution_id:
        metadata["execution_id"] = execution_id
    message = f"{failure.message}; this was not the first try, and an earlier one may have run"
    return replace(failure, message=message, metadata=metadata)


def not_sent(error: errors.ToolwrightError, request_id: str) -> errors.ToolwrightError:
    """The error of a call that was never sent, because something that comes before it failed like this."""
    failure = replace(error.failure, metadata={**error.metadata, "outcome": NOT_STARTED})
    return error_of(failure, request_id=request_id)


def _details(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """The google.rpc.Status in the trailers; absent: there is none, or it cannot be read."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _failure(code: grpc.StatusCode, text: str, status: status_pb2.Status) -> Failure:
    info = _first(status, error_details_pb2.ErrorInfo) or error_details_pb2.ErrorInfo()
    retry = _first(status, error_details_pb2.RetryInfo)
    request = _first(status, error_details_pb2.BadRequest) or error_details_pb2.BadRequest()
    localized = _first(status, error_details_pb2.LocalizedMessage) or error_details_pb2.LocalizedMessage()
    links = _first(status, error_details_pb2.Help) or error_details_pb2.Help()
    metadata = dict(info.metadata)
    return Failure(
        code=code,
        reason=info.reason if info.domain == DOMAIN else "",
        message=(status.message or text)[:MAX_MESSAGE],
        user_message=localized.message,
        suggested_action=metadata.get(ACTION) or next((link.description for link in links.links), ""),
        retryable=retry is not None,
        retry_delay=None if retry is None else retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9,
        metadata=metadata,
        violations=tuple(Violation(each.field, each.description) for each in request.field_violations),
    )


def _first(status: status_pb2.Status, kind: type[Detail]) -> Detail | None:
    """The first detail of this type; absent: there is none, or it cannot be read."""
    for packed in status.details:
        detail = kind()
        try:
            if packed.Unpack(detail):
                return detail
        except DecodeError:
            return None
    return None


def _bare(error: grpc.aio.AioRpcError) -> Failure:
    """A status without details says what ended the call, and never what the tool did."""
    code, text = error.code(), (error.details() or "no details")[:MAX_MESSAGE]
    if code is grpc.StatusCode.UNAVAILABLE:
        return Failure(
            code=code,
            reason=CONNECTION_LOST,
            message=f"the connection ended without an answer: {text}",
            metadata={"outcome": UNKNOWN},
            retryable=True,
        )
    reason = CLIENT_DEADLINE if code is grpc.StatusCode.DEADLINE_EXCEEDED else ""
    metadata = {} if code in REFUSALS else {"outcome": UNKNOWN}
    return Failure(code=code, reason=reason, message=text, metadata=metadata)
