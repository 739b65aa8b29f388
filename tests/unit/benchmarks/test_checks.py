"""What the benchmark relies on to call an answer right."""

import orjson
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bounds import Bounds, encoded_bounds
from benchmarks.contenders import Toolwright, WrongAnswerError, arguments, counted_ok
from benchmarks.processes import Process
from toolwright.v1.common_pb2 import STATE_SUCCEEDED, Execution, Progress, Usage
from toolwright.v1.tool_execution_pb2 import ExecuteResponse, ExecuteStreamResponse
from toolwright_server.telemetry.metrics import Metrics

nanos = st.integers(min_value=0, max_value=999_999_999)


def answered(start: int, took: int) -> ExecuteResponse:
    return ExecuteResponse(
        execution=Execution(
            execution_id="0" * 36,
            create_time=Timestamp(seconds=1_790_000_000, nanos=start),
            usage=Usage(tool_duration=Duration(seconds=took % 30, nanos=took), attempts=1),
        )
    )


@given(nanos, nanos, nanos, nanos)
def test_an_answer_at_any_other_time_is_within_the_bounds_of_one(start: int, took: int, later: int, long: int) -> None:
    bounds = encoded_bounds(answered(start, took))
    assert bounds.low <= answered(later, long).ByteSize() <= bounds.high


def test_one_empty_answer_among_a_thousand_is_out_of_bounds() -> None:
    bounds = Bounds(400, 400)
    assert bounds.hold(1000, 405 * 1000, 5)
    assert not bounds.hold(1000, 405 * 999, 5)
    assert not bounds.hold(1000, 405 * 1001, 5)


@pytest.mark.parametrize("size", [200, 2000])
def test_arguments_have_exactly_the_size_that_is_named(size: int) -> None:
    assert len(arguments(size).encode()) == size
    assert isinstance(orjson.loads(arguments(size)), dict)


def test_only_calls_of_the_method_that_ended_well_are_counted() -> None:
    metrics = Metrics()
    for method, code in [("a.B/Run", "OK"), ("a.B/Run", "OK"), ("a.B/Run", "INTERNAL"), ("a.B/RunStream", "OK")]:
        metrics.rpc_call(method, code, 0.001)
    assert counted_ok(metrics.render(), "a.B/Run") == 2
    assert counted_ok(metrics.render(), "a.B/Walk") == 0


def stream(steps: list[int], numbers: list[int]) -> list[bytes]:
    events = [ExecuteStreamResponse() for _ in range(len(steps) + 2)]
    events[0].event.snapshot.SetInParent()
    for event, step in zip(events[1:], steps, strict=False):
        event.event.progress.CopyFrom(Progress(progress=step))
    events[-1].event.finished.state = STATE_SUCCEEDED
    for event, number in zip(events[1:], numbers, strict=True):
        event.event.sequence = number
    return [event.SerializeToString() for event in events]


@pytest.fixture
def ours() -> Toolwright:
    return Toolwright(Process.__new__(Process), "127.0.0.1:1", "127.0.0.1:2")


def test_a_whole_stream_is_right(ours: Toolwright) -> None:
    ours.check_stream(stream([1, 2, 3], [2, 3, 4, 5]), 3)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (stream([1, 3], [2, 4, 5]), "lacks 1 events"),
        (stream([1, 2], [2, 3, 4]), "progress 1 to 3"),
        (stream([2, 1, 3], [2, 3, 4, 5]), "progress 1 to 3"),
        (stream([1, 2, 3], [2, 3, 4, 5])[1:], "no snapshot first"),
        (stream([1, 2, 3], [2, 3, 4, 5])[:-1], "no snapshot first and finished last"),
        ([], "no snapshot first"),
    ],
)
def test_a_stream_with_an_event_missing_twice_or_moved_is_wrong(
    ours: Toolwright, messages: list[bytes], said: str
) -> None:
    with pytest.raises(WrongAnswerError, match=said):
        ours.check_stream(messages, 3)
