"""What a call is charged follows from its price, from what its tool has reported, and from how it ended."""

import logging

import pytest

from tests.contracts.executions import row
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution import charging
from toolwright_server.execution.model import Execution, State
from toolwright_server.records.ledger.model import CostLimits, Denial, Hold, Moved, Settle
from toolwright_server.records.ledger.refusals import check_call, denied
from toolwright_server.rpc.status import PUSHBACK, status_of

LIMITS = CostLimits(call_micros=1_000_000_000, task_micros=10_000_000_000)


def ended(state: State, *, micros: int = 100, metered: bool = False, reported: int = 0) -> Execution:
    return row("a", state=state, hold_micros=micros, metered=metered, reported_micros=reported)


@pytest.mark.parametrize(
    ("state", "metered", "reported", "cost"),
    [
        (State.SUCCEEDED, False, 0, 100),
        (State.FAILED, False, 0, 0),
        (State.TIMED_OUT, False, 0, 0),
        (State.REJECTED, False, 0, 0),
        (State.SUCCEEDED, True, 0, 0),
        (State.SUCCEEDED, True, 60, 60),
        (State.CANCELLED, True, 60, 60),
        (State.REJECTED, True, 0, 0),
    ],
)
def test_the_end_decides_what_is_charged(state: State, metered: bool, reported: int, cost: int) -> None:
    execution = ended(state, metered=metered, reported=reported)
    assert charging.settlements(execution) == (Settle("a", "acme", cost),)
    assert (execution.cost_micros, execution.held_micros) == (cost, 0)


@pytest.mark.parametrize(
    "execution", [ended(State.OUTCOME_UNKNOWN), ended(State.RUNNING), ended(State.SUCCEEDED, micros=0)]
)
def test_nothing_follows_while_nobody_knows_or_nothing_is_held(execution: Execution) -> None:
    assert charging.settlements(execution) == ()
    assert (execution.cost_micros, execution.held_micros) == (0, execution.hold_micros)


def test_reports_add_up_to_what_is_held_and_no_further(caplog: pytest.LogCaptureFixture) -> None:
    execution = row("a", hold_micros=100, metered=True)
    for micros in (30, 30):
        charging.report(execution, micros)
    assert execution.reported_micros == 60
    with caplog.at_level(logging.WARNING):
        charging.report(execution, 41)
    assert execution.reported_micros == 100
    assert "tests.work reports a cost of 101 micros, more than the 100 that are held" in caplog.text


def test_what_is_reported_after_the_end_or_without_a_meter_counts_for_nothing() -> None:
    for execution in (ended(State.SUCCEEDED, metered=True), row("a", hold_micros=100)):
        charging.report(execution, 5)
        assert execution.reported_micros == 0


def test_a_hold_says_whose_it_is_and_what_its_task_may_cost() -> None:
    execution = row("a", hold_micros=5, task_id="t", task_limit_micros=9)
    assert charging.hold(execution, required=True) == Hold("a", "acme", "ann", "t", 5, 9, required=True)
    charging.held(execution, Moved(task_micros=8, repeated=True))
    assert execution.warnings == ()
    charging.held(execution, Moved(task_micros=8))
    (warning,) = execution.warnings
    assert (warning.kind, warning.subject, warning.threshold_percent) == ("task_cost", "t", 80)
    assert (warning.used, warning.limit, warning.reset_time) == (8, 9, None)


@pytest.mark.parametrize(
    ("price", "most", "message"),
    [
        (1_000_000_001, None, "crm.x costs up to 1,000.000001 credits; a call may cost at most 1,000"),
        (2_000_000, 1_500_000, "crm.x costs up to 2 credits; the call allows at most 1.5"),
        (1, 0, "crm.x costs up to 0.000001 credits; the call allows at most 0"),
        (2_000_000_000, 5_000_000_000, "crm.x costs up to 2,000 credits; a call may cost at most 1,000"),
    ],
)
def test_a_call_that_costs_more_than_it_may_is_refused(price: int, most: int | None, message: str) -> None:
    with pytest.raises(ToolwrightError) as error:
        check_call("crm.x", price, LIMITS, most)
    failure = error.value.failure
    assert (failure.reason, failure.message) == (Reason.BUDGET_EXCEEDED, message)
    assert (failure.metadata["scope"], failure.metadata["price"]) == ("call", str(price))
    assert failure.metadata["outcome"] == "not_started"


def test_a_call_at_its_limit_is_not_refused() -> None:
    check_call("crm.x", 1_000_000_000, LIMITS, None)
    check_call("crm.x", 5, LIMITS, 5)


@pytest.mark.parametrize("reason", [Reason.BUDGET_EXCEEDED, Reason.INSUFFICIENT_CREDITS])
def test_a_refusal_for_its_cost_tells_clients_never_to_retry(reason: Reason) -> None:
    failure: Failure = denied(Denial(reason, "t", used=1, limit=2, asked=3)).failure
    status = status_of(failure)
    assert dict(status.trailers)[PUSHBACK] == "-1"
    assert status.code.name == "RESOURCE_EXHAUSTED"
    assert not failure.may_retry()
