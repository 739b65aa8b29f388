"""What BatchExecute asks for and answers: malformed batches, refused calls, and answers that always fit."""

import time
from typing import Any

import pytest

from tests.unit.execution.corridor import UNTRACED, row
from toolwright.v1 import common_pb2 as pb
from toolwright.v1.tool_execution_pb2 import BatchExecuteRequest
from toolwright_server.errors import Failure, Reason, ToolwrightError, Violation
from toolwright_server.execution.batching import wire
from toolwright_server.execution.batching.batch import Ended
from toolwright_server.execution.model import Execution, State
from toolwright_server.identity import Caller
from toolwright_server.rpc.call import RpcCall

LIMIT = 4 << 20
ADA = Caller("acme", "key-1", "ada")


def rpc(remaining: float | None = None) -> RpcCall:
    return RpcCall("ToolExecution/BatchExecute", ADA, UNTRACED, received=time.monotonic(), remaining=remaining)


def asked(count: int, **facts: Any) -> BatchExecuteRequest:
    return BatchExecuteRequest(calls=[pb.ToolCall(tool=f"tests.t{number}") for number in range(count)], **facts)


def done(result: bytes, *, kept: bytes | None = None, **facts: Any) -> Ended:
    made: Execution = row(state=State.SUCCEEDED, result=result if kept is None else kept, caller=ADA, **facts)
    return Ended(execution=made, result=result)


def answer(count: int, limit: int) -> wire.Answer:
    return wire.Answer(asked(count), rpc(), limit)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asked(0), "calls"),
        (asked(101), "calls"),
        (asked(1, max_parallel=-1), "max_parallel"),
        (asked(1, max_parallel=101), "max_parallel"),
        (
            BatchExecuteRequest(calls=[pb.ToolCall(request_id=name) for name in ("", "a", "", "a")]),
            "calls[3].request_id",
        ),
    ],
)
def test_a_malformed_batch_is_refused_as_a_whole(request_: BatchExecuteRequest, field: str) -> None:
    with pytest.raises(ToolwrightError) as refused:
        wire.batch(request_, rpc(), LIMIT)
    assert refused.value.failure.reason is Reason.INVALID_ARGUMENTS
    assert [violation.field for violation in refused.value.failure.violations] == [field]


def test_the_deadline_of_the_whole_is_what_the_caller_gives_less_the_margin() -> None:
    batch = wire.batch(asked(100), rpc(remaining=10.0), LIMIT)
    assert batch.until is not None
    assert batch.until - time.monotonic() == pytest.approx(9.58, abs=0.5)
    assert (len(batch.calls), batch.max_parallel, batch.stop_on_failure) == (100, 10, False)
    assert wire.batch(asked(1, max_parallel=50), rpc(), LIMIT).max_parallel == 50


def test_a_call_that_cannot_be_read_is_refused_when_it_is_begun() -> None:
    request = BatchExecuteRequest(
        calls=[pb.ToolCall(tool="t", arguments_json="no"), pb.ToolCall(tool="t", user_id="bob")]
    )
    calls = wire.batch(request, rpc(), LIMIT).calls
    for call, reason in zip(calls, (Reason.INVALID_ARGUMENTS, Reason.FORBIDDEN), strict=True):
        with pytest.raises(ToolwrightError) as refused:
            call.read()
        assert refused.value.failure.reason is reason


def test_a_refused_call_says_whose_it_was_and_what_is_wrong_with_it() -> None:
    request = BatchExecuteRequest(calls=[pb.ToolCall(tool="t" * 500, request_id="r-1", session_id="s")])
    made = wire.Answer(request, rpc(), LIMIT)
    violations = (Violation("name", "is required"), Violation("tags[2]", "must be text"))
    failure = Failure(Reason.INVALID_ARGUMENTS, "wrong", metadata={"outcome": "not_started"}, violations=violations)
    made.add(0, Ended(failure=failure, seconds=0.5))
    [message] = made.response().executions
    assert (message.execution_id, message.state) == ("", pb.STATE_REJECTED)
    assert (message.tool, message.request_id, message.session_id) == ("t" * 128, "r-1", "s")
    assert (message.tenant_id, message.principal_id, message.user_id) == ("acme", "key-1", "ada")
    assert message.error.reason == "INVALID_ARGUMENTS"
    assert [(each.field, each.description) for each in message.error.violations] == [
        ("name", "is required"),
        ("tags[2]", "must be text"),
    ]
    assert made.parts == [("t" * 500, "", "INVALID_ARGUMENT", "INVALID_ARGUMENTS", 0.5)]


def test_a_call_whose_first_outcome_nobody_knows_names_the_first() -> None:
    made = answer(2, LIMIT)
    facts = {"execution_id": "0190-first"}
    made.add(0, Ended(failure=Failure(Reason.OUTCOME_UNKNOWN, "?", metadata={**facts, "outcome": "unknown"})))
    made.add(1, Ended(failure=Failure(Reason.REQUEST_ID_REUSED, "?", metadata={**facts, "outcome": "not_started"})))
    first, second = made.response().executions
    assert (first.state, first.execution_id) == (pb.STATE_OUTCOME_UNKNOWN, "0190-first")
    # Not its own: the id is that of somebody else's call.
    assert (second.state, second.execution_id) == (pb.STATE_REJECTED, "")


def test_what_goes_on_without_its_caller_is_shown_as_it_stands() -> None:
    made = answer(1, LIMIT)
    failure = Failure(Reason.CLIENT_DEADLINE, "goes on", metadata={"outcome": "unknown"})
    made.add(0, Ended(execution=row(state=State.RUNNING), failure=failure))
    [message] = made.response().executions
    assert (message.state, message.execution_id) == (pb.STATE_RUNNING, "0190-row")
    assert (message.error.reason, message.error.metadata["outcome"]) == ("CLIENT_DEADLINE", "unknown")
    assert [part.code for part in made.parts] == ["DEADLINE_EXCEEDED"]


def test_a_tool_that_failed_by_itself_is_no_failed_call() -> None:
    made = answer(1, LIMIT)
    made.add(0, Ended(execution=row(state=State.FAILED, failure=Failure(Reason.TOOL_FAILED, "no such mail"))))
    assert made.response().executions[0].error.reason == "TOOL_FAILED"
    assert [(part.code, part.reason) for part in made.parts] == [("OK", "")]


def test_the_largest_results_are_left_out_until_the_rest_fits() -> None:
    made = answer(4, 40_000)
    # In the order in which they end, which is not theirs.
    for number, size in ((2, 9_000), (0, 20_000), (3, 12_000), (1, 10_000)):
        made.add(number, done(b"[%s]" % (b"1" * size), execution_id=f"e-{number}"))
    response = made.response()
    assert response.ByteSize() <= 40_000
    assert [bool(each.result.value_json) for each in response.executions] == [False, True, True, True]
    left_out = response.executions[0]
    assert (left_out.state, left_out.error.reason) == (pb.STATE_SUCCEEDED, "PAYLOAD_TOO_LARGE")
    assert left_out.error.suggested_action == "Call GetExecution with the execution id to read the result."
    assert (left_out.error.metadata["kept"], left_out.error.metadata["execution_id"]) == ("true", "e-0")
    assert {part.code for part in made.parts} == {"OK"}


def test_results_that_the_record_does_not_have_go_last() -> None:
    made = answer(3, 30_000)
    made.add(0, done(b"[%s]" % (b"1" * 20_000), kept=b'["[redacted]"]'))
    made.add(1, done(b"[%s]" % (b"1" * 8_000)))
    made.add(2, done(b"[%s]" % (b"1" * 9_000)))
    assert [bool(each.result.value_json) for each in made.response().executions] == [True, True, False]
    made = answer(1, 5_000)
    made.add(0, done(b"[%s]" % (b"1" * 20_000), kept=b'["[redacted]"]'))
    assert made.response().executions[0].error.metadata["kept"] == "false"


def test_an_answer_is_never_larger_than_clients_take() -> None:
    made = answer(20, 1 << 40)
    for number in range(20):
        made.add(number, done(b'"%s"' % (b"x" * (1 << 20))))
    response = made.response()
    assert response.ByteSize() <= wire.ANSWER_LIMIT_BYTES
    assert sum(each.HasField("result") for each in response.executions) == 15
