"""An execution without a log of events tells the same as one that had a log from the beginning."""

from pathlib import Path

import pytest

from toolwright_server.catalog.model import Effect
from toolwright_server.execution.events import Event, Retold, StateChanged
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import TERMINAL, TRANSITIONS, Source, State
from toolwright_server.execution.recovery.takeover import judged
from toolwright_server.stores.memory.events import LogBounds

from .corridor import flight, row

pytestmark = pytest.mark.asyncio


def paths(*before: State) -> list[list[State]]:
    """Every way from QUEUED to a terminal state, and on, with one retry at the most."""
    here = [[*before[1:]]] if before[-1] in TERMINAL else []
    return here + [
        path
        for to in TRANSITIONS[before[-1]]
        if to is not State.RETRYING or to not in before
        for path in paths(*before, to)
    ]


def flown(path: list[State], bounds: LogBounds, *, read_early: bool) -> Flight:
    """A flight that went that way, at the instants 1, 2, 3; its log was read before, or never."""
    here = flight(bounds=bounds)
    if path[0] is State.SUCCEEDED:
        here.execution.source = Source.JOINED
    if read_early:
        assert here.events.after(0) == []
    for number, state in enumerate(path, start=1):
        here.move(state, float(number))
        if state is State.RUNNING:
            here.execution.start_time = float(number)
        elif state is not State.RETRYING:
            here.execution.end_time = float(number)
    return here


@pytest.mark.parametrize("path", paths(State.QUEUED), ids=str)
async def test_what_is_told_late_is_what_a_log_holds(tmp_path: Path, path: list[State]) -> None:
    bounds = LogBounds(1 << 20, 0, tmp_path)
    early, late = (flown(path, bounds, read_early=early) for early in (True, False))
    told: list[Event] = early.events.after(0)
    assert [event.sequence for event in told] == list(range(1, len(path) + 1))
    assert late.events.after(0) == told
    assert late.execution.last_sequence == early.execution.last_sequence == len(path) + 1


@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("then", [None, State.SUCCEEDED, State.FAILED])
async def test_what_was_settled_for_a_dead_server_is_told_as_far_as_it_is_known(
    effect: Effect, then: State | None
) -> None:
    left = judged(row(effect=effect), "survivor", 2_000.0).execution
    if then is not None and left.state is State.OUTCOME_UNKNOWN:
        left.move(then)
    (event,) = Retold(left).after(0)
    assert isinstance(event.what, StateChanged)
    assert (event.sequence, event.time, event.what.after) == (1, 2_000.0, left.state)
    assert left.last_sequence == 2


async def test_most_executions_need_no_log(tmp_path: Path) -> None:
    here = flown([State.RUNNING, State.SUCCEEDED], LogBounds(1 << 20, 0, tmp_path), read_early=False)
    here.land()
    assert isinstance(here.events, Retold)
    assert here.events.closed
    assert [event.sequence for event in here.events.after(1)] == [2]
    assert here.events.after(2) == []
    assert await here.events.wait(2, 0.0)


async def test_a_log_that_is_opened_by_the_first_report_holds_what_was_before(tmp_path: Path) -> None:
    here = flight(bounds=LogBounds(1 << 20, 0, tmp_path))
    here.started()
    here.log("info", "halfway")
    assert [event.sequence for event in here.events.after(0)] == [1, 2]
    assert here.execution.last_sequence == 2
    assert here.events.after(0)[0].time == here.execution.start_time
