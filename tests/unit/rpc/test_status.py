"""A failure as a status: trailers that always fit, and what is left out first when they would not."""

import base64
import math
from typing import Any
from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.errors import Failure, QuotaViolation, Reason, Violation
from toolwright_server.rpc.status import DETAILS, LIMIT_BYTES, PUSHBACK, SUGGESTED_ACTION, Status, status_of


def _run(piece: str, count: int) -> str:
    return piece * count


# Any text, also what is no Unicode, and long runs of what is dear on the wire.
RUNS = st.sampled_from(["x", "%", "ä", "€", "\U0001f600", "\ud800", "\0", "\r\n"])
TEXT: st.SearchStrategy[str] = st.text(max_size=20) | st.builds(_run, RUNS, st.integers(0, 6000))
FAILURES = st.builds(
    Failure,
    reason=st.sampled_from(Reason),
    message=TEXT,
    user_message=TEXT,
    suggested_action=TEXT,
    retryable=st.none() | st.booleans(),
    retry_delay=st.none() | st.floats(),
    metadata=st.dictionaries(TEXT, TEXT, max_size=30),
    violations=st.lists(st.builds(Violation, TEXT, TEXT), max_size=30),
    quota=st.lists(st.builds(QuotaViolation, TEXT, TEXT), max_size=30),
)
TRAILERS = st.lists(
    st.tuples(st.sampled_from(["toolwright-execution-id", "x", "Upper", "grpc-status", "x-bin", "ä", ""]) | TEXT, TEXT),
    max_size=20,
)


def _wire(status: Status) -> int:
    """Bytes of all trailers as HTTP/2 counts them, in the dearest encoding that gRPC uses."""
    headers: list[tuple[str, str]] = [
        ("grpc-status", str(status.code.value[0])),
        ("grpc-message", quote(status.message, safe="".join(map(chr, range(0x20, 0x7F))).replace("%", ""))),
    ]
    for name, value in status.trailers:
        headers.append((name, base64.b64encode(value).decode() if isinstance(value, bytes) else value))
    return sum(len(name) + len(value) + 32 for name, value in headers)


def _details(status: Status) -> dict[str, Any]:
    packed = dict(status.trailers)[DETAILS]
    assert isinstance(packed, bytes)
    whole = status_pb2.Status.FromString(packed)
    assert (whole.code, whole.message) == (status.code.value[0], status.message)
    found: dict[str, Any] = {}
    for detail in whole.details:
        kind = getattr(error_details_pb2, detail.type_url.rpartition(".")[2])
        found[kind.__name__] = kind.FromString(detail.value)
    return found


@settings(max_examples=150, deadline=None)
@given(failure=FAILURES, trailers=TRAILERS)
def test_trailers_fit_whatever_comes_in_and_the_essential_is_always_there(
    failure: Failure, trailers: list[tuple[str, str]]
) -> None:
    status = status_of(failure, trailers)
    assert _wire(status) < LIMIT_BYTES
    found = _details(status)
    info = found["ErrorInfo"]
    assert (info.domain, info.reason) == ("toolwright.v1", failure.reason.name)
    assert SUGGESTED_ACTION in info.metadata
    assert found["LocalizedMessage"].locale == "en"
    assert ("BadRequest" in found) is bool(failure.violations)
    assert [name for name, _ in status.trailers].count(DETAILS) == 1
    status.message.encode()
    for name, value in status.trailers:
        assert name.isascii()
        assert name == name.lower()
        assert isinstance(value, bytes) or value.isascii()


@settings(max_examples=50, deadline=None)
@given(failure=FAILURES)
def test_a_delay_is_told_twice_alike_or_not_at_all(failure: Failure) -> None:
    status = status_of(failure)
    pushback = dict(status.trailers).get(PUSHBACK)
    retry = _details(status).get("RetryInfo")
    if pushback in (None, "-1"):
        assert retry is None
    else:
        assert retry is not None
        milliseconds = retry.retry_delay.ToNanoseconds() / 1e6
        assert 0 <= milliseconds <= int(str(pushback)) <= milliseconds + 1


@pytest.mark.parametrize(("delay", "sent"), [(0.2501, "251"), (0, "0"), (-5, "0"), (math.nan, "0"), (1e9, "86400000")])
def test_delays_are_rounded_up_and_bounded(delay: float, sent: str) -> None:
    status = status_of(Failure(Reason.UPSTREAM_UNAVAILABLE, "m", retry_delay=delay))
    assert dict(status.trailers)[PUSHBACK] == sent


def test_a_failure_that_may_be_tried_again_says_when_even_if_nobody_told_it() -> None:
    assert dict(status_of(Failure(Reason.CONCURRENCY_LIMITED, "m")).trailers)[PUSHBACK] == "1000"
    assert dict(status_of(Failure(Reason.UPSTREAM_UNAVAILABLE, "m")).trailers)[PUSHBACK] == "1000"
    assert PUSHBACK not in dict(status_of(Failure(Reason.SLOW_CONSUMER, "m")).trailers), "attach again at once"


def test_a_failure_that_must_not_be_tried_again_never_carries_a_delay() -> None:
    status = status_of(Failure(Reason.PAYLOAD_TOO_LARGE, "m", retry_delay=3))
    assert dict(status.trailers)[PUSHBACK] == "-1"
    assert "RetryInfo" not in _details(status)


def test_the_failures_own_words_outweigh_those_of_its_reason() -> None:
    failure = Failure(
        Reason.TOOL_TIMEOUT, "m", user_message="Slow.", suggested_action="Wait.", metadata={"outcome": "none"}
    )
    found = _details(status_of(failure))
    assert found["LocalizedMessage"].message == "Slow."
    assert dict(found["ErrorInfo"].metadata) == {SUGGESTED_ACTION: "Wait.", "outcome": "none"}


def test_an_empty_message_is_replaced_as_a_status_without_words_helps_nobody() -> None:
    assert status_of(Failure(Reason.INVALID_STATE, "")).message == "This cannot be done now."


def test_long_texts_lose_their_end_visibly() -> None:
    status = status_of(Failure(Reason.INTERNAL, "ä" * 5000))
    assert status.message.endswith("...")
    assert len(status.message) > 50


def test_the_last_violations_go_before_the_first_metadata() -> None:
    failure = Failure(
        Reason.INVALID_ARGUMENTS,
        "m",
        metadata={f"key{number}": "v" * 100 for number in range(5)},
        violations=[Violation(f"field{number}", "d" * 100) for number in range(100)],
    )
    found = _details(status_of(failure))
    assert len(found["ErrorInfo"].metadata) == 6
    kept = [violation.field for violation in found["BadRequest"].field_violations]
    assert kept == [f"field{number}" for number in range(len(kept))]
    assert 3 <= len(kept) < 100


def test_each_limit_that_was_reached_is_named_with_whose_it_is() -> None:
    quota = [QuotaViolation("user ada", "30 browser calls a minute are used up"), QuotaViolation("tenant acme", "d")]
    found = _details(status_of(Failure(Reason.RATE_LIMITED, "m", retry_delay=23.5, quota=quota)))
    assert [(each.subject, each.description) for each in found["QuotaFailure"].violations] == [
        ("user ada", "30 browser calls a minute are used up"),
        ("tenant acme", "d"),
    ]
    assert found["RetryInfo"].retry_delay.ToMilliseconds() == 23_500


def test_a_limit_that_nobody_described_is_that_of_the_subject_or_of_the_server() -> None:
    failure = Failure(Reason.CONCURRENCY_LIMITED, "full", metadata={"subject": "category ai"})
    for each, subject in ((failure, "category ai"), (Failure(Reason.CONCURRENCY_LIMITED, "full"), "server")):
        (violation,) = _details(status_of(each))["QuotaFailure"].violations
        assert (violation.subject, violation.description) == (subject, "full")


def test_the_longest_texts_of_three_limits_leave_room_for_what_to_do() -> None:
    quota = [QuotaViolation("s" * 64, "d" * 256)] * 3
    failure = Failure(
        Reason.CONCURRENCY_LIMITED,
        "m" * 600,
        user_message="u" * 512,
        suggested_action="a" * 256,
        quota=quota,
        violations=[Violation("f" * 64, "v" * 128)],
    )
    found = _details(status_of(failure, [("toolwright-execution-id", "i" * 36), ("ratelimit", "r" * 200)]))
    assert found["ErrorInfo"].metadata[SUGGESTED_ACTION] == "a" * 256
    assert [violation.subject for violation in found["QuotaFailure"].violations] == ["s" * 64]
    assert len(found["BadRequest"].field_violations) == 1
