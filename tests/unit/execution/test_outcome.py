import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.attempt import Answer
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import State
from toolwright_server.execution.outcome import Outcome, judge
from toolwright_server.stores.memory.events import LogBounds

from .corridor import flight

pytestmark = pytest.mark.asyncio

READ, SAFE, SIDE = Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT
FAILURE = Failure(Reason.TOOL_CRASHED, "it broke", metadata={"exit": "9"})
STOPS = list(Stop)

# What the backend did: answered, raised, was cancelled, or has not ended yet (None).
Ending = BaseException | bytes | None


@dataclass
class Case:
    """A flight at its end."""

    effect: Effect
    started: bool
    stop: Stop | None
    ending: Ending
    source: DeadlineSource = DeadlineSource.TOOL


async def judged(case: Case, folder: Path) -> tuple[Flight, Outcome]:
    here = flight(case.effect, source=case.source, bounds=LogBounds(1 << 20, 0, folder))
    if case.started:
        here.started()
    if case.stop is not None:
        here.stop(case.stop)
    if isinstance(case.ending, BaseException):
        return here, judge(here, Answer(error=case.ending))
    return here, judge(here, Answer(case.ending))


# Effect, started, stop, ending → state, reason, outcome (None: not said).
Line = tuple[Effect, bool, Stop | None, Ending, State, str | None, str | None]
TABLE: list[Line] = [
    (SIDE, True, None, b"1", State.SUCCEEDED, None, None),
    (READ, True, None, b"1", State.SUCCEEDED, None, None),
    (SIDE, True, None, ToolFailed(FAILURE), State.FAILED, "TOOL_CRASHED", None),
    (READ, True, None, ToolFailed(FAILURE), State.FAILED, "TOOL_CRASHED", None),
    (SIDE, False, None, ToolFailed(FAILURE), State.FAILED, "TOOL_CRASHED", None),
    (SIDE, False, None, NotSent(FAILURE), State.REJECTED, "TOOL_CRASHED", "not_started"),
    (SIDE, True, None, NotSent(FAILURE), State.FAILED, "TOOL_CRASHED", "not_started"),
    (SIDE, True, None, Lost(FAILURE), State.OUTCOME_UNKNOWN, "TOOL_CRASHED", "unknown"),
    (SAFE, True, None, Lost(FAILURE), State.FAILED, "TOOL_CRASHED", "unknown"),
    (READ, True, None, Lost(FAILURE), State.FAILED, "TOOL_CRASHED", "none"),
    (SIDE, False, None, Lost(FAILURE), State.FAILED, "TOOL_CRASHED", "not_started"),
    (SIDE, True, None, RuntimeError("secret"), State.OUTCOME_UNKNOWN, "INTERNAL", "unknown"),
    (SAFE, True, None, RuntimeError("secret"), State.FAILED, "INTERNAL", "unknown"),
    (READ, True, None, RuntimeError("secret"), State.FAILED, "INTERNAL", "none"),
    (SIDE, False, None, RuntimeError("secret"), State.FAILED, "INTERNAL", "not_started"),
    # A cancellation that nobody asked for is a defect of the backend.
    (SIDE, True, None, asyncio.CancelledError(), State.OUTCOME_UNKNOWN, "INTERNAL", "unknown"),
    (READ, True, None, asyncio.CancelledError(), State.FAILED, "INTERNAL", "none"),
    # A backend that answers without having started anything breaks its Protocol: nobody knows what it did.
    (SIDE, False, None, b"1", State.FAILED, "INTERNAL", "unknown"),
    (READ, False, None, b"1", State.FAILED, "INTERNAL", "none"),
    # Told to stop: an answer of a SIDE_EFFECT tool counts, others have come too late.
    (SIDE, True, Stop.DEADLINE, b"1", State.SUCCEEDED, None, None),
    (SIDE, True, Stop.REQUESTED, b"1", State.SUCCEEDED, None, None),
    (SIDE, True, Stop.DEADLINE, ToolFailed(FAILURE), State.FAILED, "TOOL_CRASHED", None),
    (SIDE, False, Stop.DEADLINE, NotSent(FAILURE), State.REJECTED, "TOOL_CRASHED", "not_started"),
    (READ, True, Stop.DEADLINE, b"1", State.TIMED_OUT, "TOOL_TIMEOUT", "none"),
    (SAFE, True, Stop.CLIENT_LEFT, b"1", State.CANCELLED, "CANCELLED", "unknown"),
    (SIDE, True, Stop.DEADLINE, Lost(FAILURE), State.OUTCOME_UNKNOWN, "TOOL_TIMEOUT", "unknown"),
    (SIDE, True, Stop.DEADLINE, asyncio.CancelledError(), State.OUTCOME_UNKNOWN, "TOOL_TIMEOUT", "unknown"),
    (SIDE, True, Stop.DEADLINE, RuntimeError("secret"), State.OUTCOME_UNKNOWN, "TOOL_TIMEOUT", "unknown"),
    (SIDE, True, Stop.DEADLINE, None, State.OUTCOME_UNKNOWN, "TOOL_TIMEOUT", "unknown"),
    (SAFE, True, Stop.DEADLINE, None, State.TIMED_OUT, "TOOL_TIMEOUT", "unknown"),
    (READ, True, Stop.DEADLINE, None, State.TIMED_OUT, "TOOL_TIMEOUT", "none"),
    (SIDE, False, Stop.DEADLINE, None, State.TIMED_OUT, "TOOL_TIMEOUT", "not_started"),
    (SIDE, True, Stop.CLIENT_DEADLINE, None, State.OUTCOME_UNKNOWN, "CLIENT_DEADLINE", "unknown"),
    (READ, True, Stop.CLIENT_DEADLINE, None, State.TIMED_OUT, "CLIENT_DEADLINE", "none"),
    (READ, False, Stop.CLIENT_DEADLINE, None, State.TIMED_OUT, "CLIENT_DEADLINE", "not_started"),
    (SIDE, True, Stop.CLIENT_LEFT, None, State.OUTCOME_UNKNOWN, "CANCELLED", "unknown"),
    (SAFE, True, Stop.CLIENT_LEFT, None, State.CANCELLED, "CANCELLED", "unknown"),
    (READ, True, Stop.REQUESTED, None, State.CANCELLED, "CANCELLED", "none"),
    (SIDE, False, Stop.REQUESTED, None, State.CANCELLED, "CANCELLED", "not_started"),
    (READ, True, Stop.PARENT_ENDED, None, State.CANCELLED, "CANCELLED", "none"),
    (SIDE, True, Stop.DRAINING, None, State.OUTCOME_UNKNOWN, "CANCELLED", "unknown"),
]


@pytest.mark.parametrize("line", TABLE, ids=lambda line: " ".join(map(str, line)))
async def test_what_an_end_means(tmp_path: Path, line: Line) -> None:
    effect, started, stop, ending, state, reason, outcome = line
    here, found = await judged(Case(effect, started, stop, ending), tmp_path)
    assert found.state is state
    assert found.result == (b"1" if state is State.SUCCEEDED else None)
    assert (found.failure and found.failure.reason.name) == reason
    if found.failure is not None:
        assert found.failure.metadata.get("outcome") == outcome
        assert "secret" not in str(found.failure)
    here.move(found.state, 0.0)


ENDINGS: list[Callable[[], Ending]] = [
    lambda: b"1",
    lambda: ToolFailed(FAILURE),
    lambda: NotSent(FAILURE),
    lambda: Lost(FAILURE),
    lambda: RuntimeError("secret"),
    asyncio.CancelledError,
    lambda: None,
]


async def test_whatever_happens_there_is_an_allowed_state_and_a_result_or_a_failure(tmp_path: Path) -> None:
    for effect, started, stop, ending in itertools.product(Effect, (True, False), (None, *STOPS), ENDINGS):
        if stop is None and ending() is None:
            continue  # nobody judges a call that goes on
        here, found = await judged(Case(effect, started, stop, ending()), tmp_path)
        here.move(found.state, 0.0)
        assert (found.result is None) is (found.state is not State.SUCCEEDED)
        assert (found.failure is None) is (found.state is State.SUCCEEDED)
        if found.state is State.OUTCOME_UNKNOWN:
            assert effect is Effect.SIDE_EFFECT
            assert started


@pytest.mark.parametrize("source", list(DeadlineSource))
async def test_a_timeout_says_which_limit_it_was(tmp_path: Path, source: DeadlineSource) -> None:
    _, found = await judged(Case(READ, True, Stop.DEADLINE, None, source), tmp_path)
    assert found.failure is not None
    client = source is DeadlineSource.CLIENT
    assert found.failure.reason is (Reason.CLIENT_DEADLINE if client else Reason.TOOL_TIMEOUT)
    facts = dict(found.failure.metadata)
    assert float(facts.pop("elapsed_seconds")) >= 0
    assert facts == {"source": source.name, "limit_seconds": "30.000", "attempts": "1", "outcome": "none"}
    assert "tests.work" in found.failure.message


async def test_a_failure_keeps_what_the_tool_said_beside_what_is_known(tmp_path: Path) -> None:
    _, found = await judged(Case(SIDE, True, None, Lost(FAILURE)), tmp_path)
    assert found.failure is not None
    assert found.failure.metadata == {"exit": "9", "outcome": "unknown"}
    assert FAILURE.metadata == {"exit": "9"}


async def test_a_defect_of_a_backend_is_in_the_log_with_its_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await judged(Case(READ, True, None, RuntimeError("secret")), tmp_path)
    (record,) = caplog.records
    assert (record.levelname, "tests.work" in record.message) == ("ERROR", True)
    assert record.exc_info is not None
