from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.execution.model import TERMINAL, TRANSITIONS, Execution, State

from .corridor import row


@given(st.lists(st.sampled_from(State), max_size=12))
def test_an_execution_moves_along_the_table_and_nowhere_else(wanted: list[State]) -> None:
    execution = row()
    for to in wanted:
        before = execution.state
        if to in TRANSITIONS[before]:
            execution.move(to)
            assert execution.state is to
        else:
            with pytest.raises(ValueError, match=f"cannot go from {before.name} to {to.name}"):
                execution.move(to)
            assert execution.state is before


def test_every_path_from_the_beginning_ends_in_a_terminal_state() -> None:
    ends: set[State] = set()

    def walk(state: State, path: tuple[State, ...]) -> None:
        if state in path:
            assert {state, path[-1]} == {State.RUNNING, State.RETRYING}, "only attempts may come again"
            return
        if state in TERMINAL:
            ends.add(state)
        for to in TRANSITIONS[state]:
            walk(to, (*path, state))

    walk(State.QUEUED, ())
    assert ends == TERMINAL


def test_the_table_names_every_state_once() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", sorted(TERMINAL - {State.OUTCOME_UNKNOWN}))
def test_a_terminal_state_leads_nowhere(state: State) -> None:
    execution = row(state=state)
    assert execution.ended
    for to in State:
        with pytest.raises(ValueError, match=execution.execution_id):
            execution.move(to)


def test_an_unknown_outcome_can_only_become_known() -> None:
    assert row(state=State.OUTCOME_UNKNOWN).ended
    assert TRANSITIONS[State.OUTCOME_UNKNOWN] == {State.SUCCEEDED, State.FAILED}


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.RETRYING])
def test_what_is_not_terminal_has_not_ended(state: State) -> None:
    assert not row(state=state).ended


def test_what_never_ran_cannot_have_an_unknown_outcome() -> None:
    # It can succeed: with the answer of another call.
    assert State.OUTCOME_UNKNOWN not in TRANSITIONS[State.QUEUED]


def test_what_ran_can_no_longer_be_rejected() -> None:
    assert State.REJECTED not in TRANSITIONS[State.RUNNING]


def test_executions_are_compared_by_identity() -> None:
    make: Callable[[], Execution] = row
    assert make() != make()
