from typing import Any

import pytest

from toolwright_server.errors import Code, Failure, Reason, ToolwrightError
from toolwright_server.execution.model import TERMINAL, Execution, State
from toolwright_server.execution.once import Repeated, repeated
from toolwright_server.identity import Caller

from .corridor import row

ANN = Caller("acme", "key-1", "ann")


def call(**facts: Any) -> Execution:
    return row(**{"caller": ANN, "request_id": "r", **facts})


@pytest.mark.parametrize("state", sorted(TERMINAL - {State.OUTCOME_UNKNOWN}))
def test_the_first_answer_is_given_again(state: State) -> None:
    assert repeated(call(state=state), call()) is Repeated.REPLAY


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_what_still_runs_is_joined(state: State) -> None:
    assert repeated(call(state=state), call()) is Repeated.JOIN


@pytest.mark.parametrize("state", sorted(State))
def test_another_payload_under_the_same_request_id_is_refused(state: State) -> None:
    with pytest.raises(ToolwrightError) as refused:
        repeated(call(state=state, execution_id="first"), call(digest=b"other"))
    failure = refused.value.failure
    assert (failure.reason, failure.reason.code) == (Reason.REQUEST_ID_REUSED, Code.ALREADY_EXISTS)
    assert failure.metadata == {"outcome": "not_started", "execution_id": "first"}


def test_whose_call_holds_a_request_id_is_not_told_to_who_may_not_see_it() -> None:
    holder = call(caller=Caller("acme", "key-1", "bob"), digest=b"of bob")
    with pytest.raises(ToolwrightError) as refused:
        repeated(holder, call())
    assert "execution_id" not in refused.value.failure.metadata


def test_nobody_may_send_again_what_may_have_been_done() -> None:
    failure = Failure(Reason.TOOL_TIMEOUT, "took too long", metadata={"outcome": "unknown"})
    holder = call(state=State.OUTCOME_UNKNOWN, execution_id="first", failure=failure)
    with pytest.raises(ToolwrightError) as refused:
        repeated(holder, call())
    told = refused.value.failure
    assert (told.reason, told.reason.code) == (Reason.OUTCOME_UNKNOWN, Code.ABORTED)
    assert told.metadata == {"execution_id": "first", "outcome": "unknown", "first_reason": "TOOL_TIMEOUT"}
    assert not told.may_retry()
