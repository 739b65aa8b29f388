"""Errors are rebuilt from what a status carries, survive pickling, and say what to do."""

import pickle

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

import toolwright_client
from toolwright.v1 import common_pb2
from toolwright_client import errors, statuses, wire
from toolwright_client.model import Failure, State


def rpc_error(
    code: grpc.StatusCode, *details: Message, raw: bytes | None = None, pushback: str | None = None
) -> grpc.aio.AioRpcError:
    status = status_pb2.Status(code=code.value[0], message="what was wrong")
    for each in details:
        status.details.add().Pack(each)
    trailers: list[tuple[str, str | bytes]] = []
    if details or raw is not None:
        trailers.append((statuses.DETAILS, status.SerializeToString() if raw is None else raw))
    if pushback is not None:
        trailers.append((statuses.PUSHBACK, pushback))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), "bare text")


def info(reason: str, domain: str = "toolwright.v1", **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(domain=domain, reason=reason, metadata=metadata)


@pytest.mark.parametrize(("reason", "kind"), list(statuses.BY_REASON.items()))
def test_every_reason_has_its_own_class(reason: str, kind: type[errors.ToolwrightError]) -> None:
    error = statuses.error_of_rpc(rpc_error(grpc.StatusCode.ABORTED, info(reason)))
    assert type(error) is kind
    assert getattr(toolwright_client, kind.__name__) is kind


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_bare_code_becomes_an_error_of_its_code(code: grpc.StatusCode) -> None:
    error = statuses.error_of_rpc(rpc_error(code), request_id="r")
    assert error.code is code
    assert error.request_id == "r"
    assert isinstance(error, statuses.BY_CODE.get(code, errors.ServerError))
    assert error.outcome == ("" if code in statuses.REFUSALS else "unknown")


def test_a_foreign_domain_gives_no_reason() -> None:
    error = statuses.error_of_rpc(rpc_error(grpc.StatusCode.NOT_FOUND, info("TOOL_NOT_FOUND", "example.com")))
    assert type(error) is errors.NotFound
    assert error.reason == ""


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b""])
def test_details_that_cannot_be_read_are_as_good_as_none(raw: bytes) -> None:
    error = statuses.error_of_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, raw=raw))
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert error.reason in {"CONNECTION_LOST", ""}


def test_a_detail_that_cannot_be_read_does_not_hide_the_others() -> None:
    good = rpc_error(grpc.StatusCode.UNAVAILABLE, info("SERVER_DRAINING", outcome="not_started"))
    status = status_pb2.Status.FromString(good.trailing_metadata()[statuses.DETAILS])  # type: ignore[arg-type]
    broken = status.details.add()
    broken.type_url, broken.value = "type.googleapis.com/google.rpc.RetryInfo", b"\xff"
    error = statuses.error_of_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, raw=status.SerializeToString()))
    assert (type(error), error.outcome, error.retryable) == (errors.ServerDraining, "not_started", False)


@pytest.mark.parametrize(
    ("pushback", "retryable", "delay"),
    [(None, True, 1.5), ("300", True, 0.3), ("0", True, 0.0), ("-1", False, None), ("soon", False, None)],
)
def test_pushback_outweighs_retry_info(pushback: str | None, retryable: bool, delay: float | None) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    error = statuses.error_of_rpc(
        rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, info("RATE_LIMITED"), retry, pushback=pushback)
    )
    assert (error.retryable, error.retry_delay) == (retryable, delay)


def test_an_execution_id_is_taken_from_the_trailer_when_the_details_have_none() -> None:
    trailers = grpc.aio.Metadata((statuses.EXECUTION_ID, "e-7"))
    bare = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), trailers, "bare text")
    error = statuses.error_of_rpc(bare)
    assert (error.execution_id, error.outcome) == ("e-7", "unknown")


def test_help_stands_in_for_the_suggested_action() -> None:
    links = error_details_pb2.Help(links=[error_details_pb2.Help.Link(description="Ask a person.")])
    error = statuses.error_of_rpc(rpc_error(grpc.StatusCode.FAILED_PRECONDITION, info("APPROVAL_REQUIRED"), links))
    assert error.suggested_action == "Ask a person."
    assert str(error) == "FAILED_PRECONDITION APPROVAL_REQUIRED: what was wrong Ask a person."


def test_an_error_survives_pickling_with_its_execution() -> None:
    raw = common_pb2.Execution(execution_id="e-1", state=common_pb2.STATE_FAILED, request_id="r")
    raw.error.CopyFrom(common_pb2.ExecutionError(code=13, reason="TOOL_CRASHED", message="died", retryable=True))
    raw.error.retry_delay.FromMilliseconds(250)
    error = statuses.error_of_execution(wire.execution(raw))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.ToolFailed
    assert (copy.failure, copy.request_id, copy.execution_id) == (error.failure, "r", "e-1")
    assert copy.execution is not None
    assert (copy.retry_delay, copy.execution.state, copy.execution.raw) == (0.25, State.FAILED, raw)


def test_an_execution_that_ended_without_an_error_still_raises_one() -> None:
    raw = common_pb2.Execution(execution_id="e-1", state=common_pb2.STATE_UNDONE)
    assert "UNDONE" in statuses.error_of_execution(wire.execution(raw)).message


def test_events_expired_tells_the_first_event_or_nothing() -> None:
    for text, number in (("12", 12), ("", 0), ("-3", 0), ("x", 0)):
        failure = Failure(code=grpc.StatusCode.OUT_OF_RANGE, message="m", metadata={"first_sequence": text})
        assert errors.EventsExpired(failure).first_sequence == number


def test_the_tree_in_the_docstring_names_every_exception() -> None:
    public = [name for name in vars(errors) if isinstance(vars(errors)[name], type) and name[0].isupper()]
    kinds = [name for name in public if issubclass(vars(errors)[name], errors.ToolwrightError)]
    assert errors.__doc__ is not None
    assert [name for name in kinds if name not in errors.__doc__] == []
    assert [name for name in kinds if name not in toolwright_client.__all__] == []
