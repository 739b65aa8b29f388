"""The rules of the client: what may be repeated, how long a call may take, and how values are read."""

import inspect
import itertools
import time
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel

from toolwright.v1 import common_pb2
from toolwright_client import AsyncClient, Client, Failure, RetryPolicy, State, Stopped, ToolwrightError, wire
from toolwright_client.blocking import BlockingHandle
from toolwright_client.deadline import LONGEST_SECONDS, Budget
from toolwright_client.handles import ExecutionHandle
from toolwright_client.options import encoded, tool_call
from toolwright_client.retries import Tries, may_repeat

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
OUTCOMES = ["", "not_started", "none", "unknown", "surprise"]


@pytest.mark.parametrize(("code", "outcome", "retryable"), list(itertools.product(CODES, OUTCOMES, [True, False])))
def test_a_call_is_repeated_when_nobody_answered_or_the_server_says_that_it_may_help(
    code: grpc.StatusCode, outcome: str, retryable: bool
) -> None:
    metadata = {"outcome": outcome} if outcome else {}
    told = code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL} and retryable
    for reason in ("", "ANY"):
        failure = Failure(code=code, reason=reason, message="m", metadata=metadata, retryable=retryable)
        helps = code is grpc.StatusCode.UNAVAILABLE or (told and reason != "")
        assert may_repeat(ToolwrightError(failure)) is helps


def failed(outcome: str) -> ToolwrightError:
    return ToolwrightError(Failure(code=grpc.StatusCode.UNAVAILABLE, message="m", metadata={"outcome": outcome}))


def test_only_a_call_that_may_have_run_is_asked_for_beyond_the_attempts() -> None:
    policy = RetryPolicy(max_attempts=3, initial_backoff_seconds=0.01, lost_seconds=2)
    sure, lost = Tries(policy), Tries(policy)
    assert [sure.delay(failed("not_started")) is not None for _ in range(3)] == [True, True, False]
    assert lost.delay(failed("unknown")) is not None
    further = [lost.delay(failed("not_started")) for _ in range(6)]
    assert [each for each in further if each == 0.5] == [0.5] * 4
    assert further[-1] is None
    assert (sure.doubt, lost.doubt) == (False, True)


def test_one_attempt_is_one_attempt_also_for_a_lost_call() -> None:
    assert Tries(RetryPolicy(max_attempts=1)).delay(failed("unknown")) is None


def test_delays_double_up_to_the_maximum_and_end_with_the_attempts() -> None:
    policy = RetryPolicy(max_attempts=6, initial_backoff_seconds=0.1, max_backoff_seconds=0.5)
    delays = list(policy.delays())
    assert len(delays) == 5
    assert all(most / 2 <= each <= most for each, most in zip(delays, [0.1, 0.2, 0.4, 0.5, 0.5], strict=True))
    assert list(RetryPolicy(max_attempts=1).delays()) == []
    with pytest.raises(ValueError, match="max_attempts"):
        RetryPolicy(max_attempts=0)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_is_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Budget.of(timeout)


@pytest.mark.parametrize("timeout", [1e300, float("inf")])
def test_a_timeout_longer_than_grpc_can_count_is_shortened_and_neither_past_nor_a_slice(timeout: float) -> None:
    assert LONGEST_SECONDS / 2 < Budget.of(timeout).seconds() <= LONGEST_SECONDS
    assert Budget.of(5).seconds() <= 5


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_tool_timeout_that_is_no_time_is_refused_before_anything_is_sent(timeout: float) -> None:
    with pytest.raises(ValueError, match="tool_timeout must be a positive number of seconds up to 1e\\+09"):
        tool_call("a.b", {}, {"tool_timeout": timeout})


def test_a_surrounding_deadline_of_a_wrong_type_is_ignored() -> None:
    token = otel.attach(otel.set_value("toolwright-deadline", "soon"))
    try:
        assert Budget.of(None).left() == float("inf")
    finally:
        otel.detach(token)


def test_a_part_of_a_budget_never_outlives_it() -> None:
    whole = Budget(time.monotonic() + 10, inherited=False)
    assert whole.at_most(60).until == whole.until
    assert whole.at_most(1).left() <= 1


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_value_goes_out_and_comes_back_exactly(value: Any) -> None:
    result = common_pb2.ToolResult(value_json=encoded({"value": value}))
    raw = common_pb2.Execution(state=common_pb2.STATE_SUCCEEDED, result=result)
    assert wire.execution(raw).value == {"value": value}


def test_a_value_in_struct_form_is_read_too() -> None:
    raw = common_pb2.Execution(state=common_pb2.STATE_SUCCEEDED)
    json_format.ParseDict({"a": [1, None, "x"]}, raw.result.value)
    assert wire.execution(raw).value == {"a": [1, None, "x"]}


def test_states_of_a_newer_server_are_unspecified_and_not_an_error() -> None:
    raw = common_pb2.Execution.FromString(b"\x10\x63\xc0\x01\x63")
    read = wire.execution(raw)
    assert (read.state, read.stopped, read.state.terminal) == (State.UNSPECIFIED, Stopped.UNSPECIFIED, False)
    assert wire.event(common_pb2.ExecutionEvent(sequence=3)) is not None


def test_every_state_of_the_contract_is_known() -> None:
    assert [state.value for state in State] == [
        name.removeprefix("STATE_") for name in common_pb2.State.DESCRIPTOR.values_by_name
    ]
    assert sum(state.terminal for state in State) == 7


@pytest.mark.parametrize(("quick", "slow"), [(AsyncClient, Client), (ExecutionHandle, BlockingHandle)])
def test_the_blocking_side_takes_what_the_async_side_takes(quick: type, slow: type) -> None:
    names = [name for name in vars(quick) if not name.startswith("_") and name != "aclose"]
    assert "cancel" in names
    for name in names:
        if callable(getattr(quick, name)):
            ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (quick, slow))
            assert dict(ours) == dict(theirs), name
    assert inspect.signature(quick).parameters.keys() >= inspect.signature(slow).parameters.keys() - {"handle"}
