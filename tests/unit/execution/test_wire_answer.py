"""An answer that is put together from parts is the message that it stands for."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution import wire
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import State, Stopped
from toolwright_server.execution.streaming import wire as messages
from toolwright_server.identity import Caller

from .corridor import row

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=130)
SECONDS = st.floats(0, 4e9)
LENGTHS = st.sampled_from([0, 1, 5, 113, 127, 128, 16_369, 16_370, 16_383, 16_384, 70_000])
ROWS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("execution_id", "task_id", "trace_id", "tool", "tool_version", "server_id"), TEXT),
    "category": TEXT,
    "effect": st.sampled_from(Effect),
    **dict.fromkeys(("request_id", "session_id", "agent_id", "parent_execution_id"), st.just("") | TEXT),
    **dict.fromkeys(("create_time", "deadline_time", "end_time"), SECONDS),
    **dict.fromkeys(("queue_seconds", "tool_seconds"), st.floats(0, 1e6)),
    "start_time": st.none() | SECONDS,
    "caller": st.builds(Caller, TEXT, TEXT, TEXT),
    "deadline_source": st.sampled_from(DeadlineSource),
    "stopped": st.sampled_from(Stopped),
    "attempts": st.integers(0, 5),
    "last_sequence": st.integers(0, 2**40),
    "as_json": st.booleans(),
    "labels": st.just(dict[str, str]()) | st.dictionaries(TEXT, TEXT, max_size=3),
    "result": LENGTHS.map(lambda length: b'"' + b"x" * length + b'"'),
}


@given(st.fixed_dictionaries(ROWS))
def test_an_answer_reads_back_as_the_execution(facts: dict[str, Any]) -> None:
    settled = row(**facts, state=State.SUCCEEDED)
    assert pb.ExecuteResponse.FromString(
        wire.answer(settled, settled.result, settled.as_json)
    ).execution == wire.execution(settled)


def test_what_one_answer_said_is_not_in_the_next() -> None:
    large = {"state": State.SUCCEEDED, "start_time": 1.5, "end_time": 2.5, "result": b"1", "request_id": "r"}
    first = row(**large, attempts=3, last_sequence=9, stopped=Stopped.YES, tool_seconds=1.0, queue_seconds=1.0)
    second = row(state=State.SUCCEEDED, start_time=1.0, end_time=2.0, result=b"2", tool_seconds=0.0, queue_seconds=0.0)
    for settled in (first, second, first):
        assert pb.ExecuteResponse.FromString(
            wire.answer(settled, settled.result, settled.as_json)
        ).execution == wire.execution(settled)


def test_a_failure_is_answered_with_its_error() -> None:
    failed = row(state=State.FAILED, start_time=1.0, end_time=2.0, failure=Failure(Reason.TOOL_FAILED, "no"))
    assert pb.ExecuteResponse.FromString(wire.answer(failed, None, failed.as_json)).execution == wire.execution(failed)


def test_who_waits_gets_the_result_as_its_tool_answered_it_and_not_as_it_is_kept() -> None:
    settled = row(state=State.SUCCEEDED, start_time=1.0, end_time=2.0, result=b'"[redacted]"', as_json=True)
    for kept in (settled.result, None):
        settled.result = kept
        answered = pb.ExecuteResponse.FromString(wire.answer(settled, b'"hush"', settled.as_json)).execution
        assert answered.result.value_json == '"hush"'
        assert messages.finished(settled, b'"hush"', as_json=True).finished.result.value_json == '"hush"'
        assert wire.execution(settled).HasField("result") is (kept is not None)


def test_arguments_are_told_as_far_as_they_are_kept() -> None:
    assert wire.in_full(row(arguments=b'{"a":1}'), for_operator=False).arguments_json == '{"a":1}'
    assert wire.in_full(row(arguments=None), for_operator=False).arguments_json == ""
    assert wire.execution(row(arguments=b'{"a":1}')).arguments_json == ""


def test_what_only_operators_are_told_is_told_to_nobody_else() -> None:
    failure = Failure(Reason.TOOL_FAILED, "no", admin_message="ValueError: hush")
    failed = row(state=State.FAILED, start_time=1.0, end_time=2.0, failure=failure)
    assert wire.in_full(failed, for_operator=True).error.admin_message == "ValueError: hush"
    told = [wire.in_full(failed, for_operator=False), wire.execution(failed), messages.finished(failed, None, True)]
    assert "hush" not in f"{told}{wire.answer(failed, None, True)!r}"
