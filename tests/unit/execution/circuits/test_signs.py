"""What an attempt's end says of its upstream: never what a caller alone brings about."""

from dataclasses import replace

import pytest

from tests.circuits import ANSWERED, FAILED, NOTHING, SLOW, SLOW_FAILED
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed
from toolwright_server.execution.circuits.model import Report
from toolwright_server.execution.circuits.signs import Attempt, report
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.flight import Stop

QUICK = Attempt(ran=0.1, stop=None, source=DeadlineSource.TOOL, timeout=10.0, slow=4.0)
LONG = replace(QUICK, ran=6.0)
PATIENT = replace(LONG, slow=None)
CUT = TimeoutError()


def failure(reason: Reason, *, retryable: bool | None = None, **metadata: str) -> Failure:
    return Failure(reason, "", retryable=retryable, metadata=metadata)


@pytest.mark.parametrize(
    ("error", "quick", "long"),
    [
        (None, ANSWERED, SLOW),
        # In its own words: its upstream has answered, with a refusal for instance.
        (ToolFailed(failure(Reason.TOOL_FAILED, retryable=False)), ANSWERED, SLOW),
        (ToolFailed(failure(Reason.TOOL_FAILED, retryable=True)), FAILED, SLOW_FAILED),
        (NotSent(failure(Reason.TOOL_FAILED, retryable=True)), FAILED, SLOW_FAILED),
        (ToolFailed(failure(Reason.UPSTREAM_UNAVAILABLE)), FAILED, SLOW_FAILED),
        (NotSent(failure(Reason.UPSTREAM_UNAVAILABLE)), FAILED, SLOW_FAILED),
        (Lost(failure(Reason.UPSTREAM_UNAVAILABLE)), FAILED, SLOW_FAILED),
        # Not in its own words: nobody knows whether the upstream was asked at all.
        (ToolFailed(failure(Reason.TOOL_FAILED)), NOTHING, NOTHING),
        (NotSent(failure(Reason.TOOL_FAILED, retryable=False)), NOTHING, NOTHING),
        (NotSent(failure(Reason.INVALID_ARGUMENTS)), NOTHING, NOTHING),
        # The tool's own doing, or that of its arguments.
        (Lost(failure(Reason.TOOL_CRASHED)), NOTHING, NOTHING),
        (Lost(failure(Reason.MEMORY_LIMIT)), NOTHING, NOTHING),
        (ToolFailed(failure(Reason.OUTPUT_INVALID)), NOTHING, NOTHING),
        (ToolFailed(failure(Reason.OUTPUT_LIMIT)), NOTHING, NOTHING),
        # A step, which has a circuit of its own.
        (ToolFailed(failure(Reason.TOOL_FAILED, retryable=True, nested_reason="CIRCUIT_OPEN")), NOTHING, NOTHING),
        (ValueError("a defect of ours"), NOTHING, NOTHING),
    ],
)
def test_what_ended_by_itself(error: Exception | None, quick: Report, long: Report) -> None:
    assert (report(QUICK, error), report(LONG, error)) == (quick, long)
    assert report(replace(LONG, ran=None), error) == NOTHING
    assert not report(PATIENT, error).slow


@pytest.mark.parametrize("source", list(DeadlineSource))
@pytest.mark.parametrize("stop", list(Stop))
def test_what_was_told_to_stop_failed_only_if_the_tools_own_time_was_up(source: DeadlineSource, stop: Stop) -> None:
    callers = source in (DeadlineSource.CLIENT, DeadlineSource.REQUEST) or stop is not Stop.DEADLINE
    told = {"stop": stop, "source": source}
    assert report(replace(PATIENT, **told), CUT) == (NOTHING if callers else FAILED)
    # That it took long is a fact whoever had no patience.
    assert report(replace(LONG, **told), CUT) == (SLOW if callers else SLOW_FAILED)
    assert report(replace(QUICK, **told), CUT) == NOTHING
    # A tool that fails because it was interrupted says nothing else than that.
    assert report(replace(QUICK, **told), ToolFailed(failure(Reason.TOOL_FAILED, retryable=True))) == NOTHING
    assert report(replace(QUICK, **told), None) == ANSWERED


def test_an_attempt_that_had_less_than_half_of_its_time_says_nothing_when_that_is_up() -> None:
    """Its time went on waiting for a worker, on earlier attempts, or its tenant gives the tool less of it."""
    stopped = replace(PATIENT, stop=Stop.DEADLINE)
    assert report(replace(stopped, ran=4.9), CUT) == NOTHING
    assert report(replace(stopped, ran=5.0), CUT) == FAILED
