"""Attempts after the first: which failures, how often, after which pauses, and never beyond the deadline."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.catalog.context import ToolCallError, ToolError
from toolwright_server.catalog.model import Effect, RetryPolicy
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed, Work
from toolwright_server.execution.deadline import Deadline, DeadlineSource
from toolwright_server.execution.events import Retried, StateChanged
from toolwright_server.execution.flight import Stop
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.retrying import Chances, attempts
from toolwright_server.stores.memory.events import LogBounds

from .corridor import flight
from .house import PATIENCE, House

GONE = Failure(Reason.UPSTREAM_UNAVAILABLE, "the upstream is gone")
BROKEN = Failure(Reason.TOOL_FAILED, "the tool failed", retryable=True)
READ, IDEMPOTENT, SIDE = Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT


def counted(house: House, effect: Effect, *errors: Exception, **facts: Any) -> list[int]:
    """A tool that raises these, one an attempt, and then answers 1; the list has an entry for each attempt."""
    calls: list[int] = []

    async def script(work: Work) -> bytes:
        calls.append(1)
        work.reporter.started()
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return b"1"

    house.remote(script, effect, **facts)
    return calls


def retries(house: House, execution: Execution) -> list[Retried]:
    return [what for what in house.happenings(execution) if isinstance(what, Retried)]


@pytest.mark.asyncio
@pytest.mark.parametrize("effect", list(Effect))
async def test_what_was_not_sent_is_tried_again_whatever_its_effect(house: House, effect: Effect) -> None:
    calls = counted(house, effect, NotSent(GONE), NotSent(GONE))
    execution = await house.run("remote")
    assert (execution.state, execution.attempts, len(calls)) == (State.SUCCEEDED, 3, 3)
    assert house.pauses == [1.0, 2.0]


@pytest.mark.asyncio
@pytest.mark.parametrize(("effect", "expected"), [(READ, 2), (IDEMPOTENT, 2), (SIDE, 1)])
async def test_a_tool_that_failed_is_tried_again_unless_it_has_side_effects(
    house: House, effect: Effect, expected: int
) -> None:
    calls = counted(house, effect, ToolFailed(BROKEN))
    execution = await house.run("remote")
    assert len(calls) == expected
    assert execution.state is (State.SUCCEEDED if expected == 2 else State.FAILED)


@pytest.mark.asyncio
@pytest.mark.parametrize("effect", list(Effect))
async def test_what_was_lost_on_its_way_is_never_tried_again(house: House, effect: Effect) -> None:
    calls = counted(house, effect, Lost(GONE))
    execution = await house.run("remote")
    assert len(calls) == 1
    assert execution.state is (State.OUTCOME_UNKNOWN if effect is SIDE else State.FAILED)


@pytest.mark.asyncio
async def test_what_is_not_marked_as_retryable_is_not_tried_again(house: House) -> None:
    calls = counted(house, READ, ToolFailed(Failure(Reason.TOOL_FAILED, "no")))
    assert (await house.run("remote")).state is State.FAILED
    assert len(calls) == 1


@pytest.mark.asyncio
async def test_the_last_failure_says_how_often_it_was_tried_and_why_no_more(house: House) -> None:
    calls = counted(house, READ, *[ToolFailed(BROKEN)] * 9)
    execution = await house.run("remote")
    assert (execution.state, len(calls)) == (State.FAILED, 4)
    assert house.pauses == [1.0, 2.0, 4.0]
    failure = execution.failure
    assert failure is not None
    assert failure.metadata["attempts"] == "4"
    assert failure.metadata["no_retry"] == "4 attempts were made, which is all that are allowed"


@pytest.mark.asyncio
async def test_a_call_narrows_the_attempts_of_its_tool_and_does_not_widen_them(house: House) -> None:
    calls = counted(house, READ, *[ToolFailed(BROKEN)] * 99)
    await house.run("remote", max_attempts=2)
    assert len(calls) == 2
    await house.run("remote", max_attempts=50)
    assert len(calls) == 2 + 4


@pytest.mark.asyncio
async def test_the_pause_that_the_upstream_asks_for_counts_instead_of_ours(house: House) -> None:
    asked = Failure(Reason.TOOL_FAILED, "slow down", retryable=True, retry_delay=7.5)
    counted(house, READ, ToolFailed(asked))
    execution = await house.run("remote")
    assert house.pauses == [7.5]
    (retried,) = retries(house, execution)
    assert (retried.attempt, retried.failure, retried.delay_seconds) == (1, asked, 7.5)


@pytest.mark.asyncio
async def test_a_retry_that_cannot_begin_in_time_is_not_announced_and_the_error_says_so(house: House) -> None:
    asked = Failure(Reason.TOOL_FAILED, "slow down", retryable=True, retry_delay=50.0)
    calls = counted(house, READ, ToolFailed(asked))
    execution = await house.run("remote", timeout=10.0)
    assert (execution.state, len(calls), house.pauses) == (State.FAILED, 1, [])
    assert execution.failure is not None
    assert "another attempt would begin in 50.000 s, and " in execution.failure.metadata["no_retry"]
    assert not retries(house, execution)


@pytest.mark.asyncio
async def test_streams_tell_of_each_attempt(house: House) -> None:
    counted(house, READ, ToolFailed(BROKEN))
    execution = await house.run("remote")
    told = house.happenings(execution)
    assert told == [
        StateChanged(State.QUEUED, State.RUNNING),
        StateChanged(State.RUNNING, State.RETRYING),
        Retried(1, BROKEN, 1.0),
        StateChanged(State.RETRYING, State.RUNNING),
        StateChanged(State.RUNNING, State.SUCCEEDED),
    ]
    assert execution.last_sequence == len(told) + 1


@pytest.mark.asyncio
@pytest.mark.parametrize("effect", list(Effect))
async def test_who_stops_it_between_two_attempts_is_told_that_nothing_happened(house: House, effect: Effect) -> None:
    waiting = asyncio.Event()

    async def forever(seconds: float) -> None:
        del seconds
        waiting.set()
        await asyncio.Event().wait()

    house.chances = Chances(forever)
    calls = counted(house, effect, NotSent(GONE))
    begun = await house.begin("remote")
    await asyncio.wait_for(waiting.wait(), PATIENCE)
    assert begun.execution.state is State.RETRYING
    begun.stop(Stop.REQUESTED)
    assert await begun.ended(PATIENCE)
    execution = begun.execution
    assert (execution.state, execution.stopped, len(calls)) == (State.CANCELLED, Stopped.YES, 1)
    assert execution.failure is not None
    assert execution.failure.metadata["outcome"] == "not_started"


@pytest.mark.asyncio
@pytest.mark.parametrize("effect", [READ, IDEMPOTENT])
@pytest.mark.parametrize("stopped", [True, False])
async def test_that_a_later_attempt_was_not_sent_does_not_take_back_an_earlier_one(
    house: House, effect: Effect, stopped: bool
) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def pause(seconds: float) -> None:
        del seconds
        if len(calls) == 2:
            waiting.set()
            await go_on.wait()

    house.chances = Chances(pause)
    calls = counted(house, effect, ToolFailed(BROKEN), NotSent(GONE), NotSent(GONE), NotSent(GONE))
    begun = await house.begin("remote", request_id="once")
    await asyncio.wait_for(waiting.wait(), PATIENCE)
    if stopped:
        begun.stop(Stop.REQUESTED)
    go_on.set()
    assert await begun.ended(PATIENCE)
    failure = begun.execution.failure
    assert failure is not None
    assert failure.metadata.get("outcome") != "not_started"
    assert begun.execution.state is (State.CANCELLED if stopped else State.FAILED)
    assert len(calls) == (2 if stopped else 4)


@pytest.mark.asyncio
async def test_a_tool_that_fails_when_it_is_told_to_stop_is_not_tried_again(house: House) -> None:
    begun: list[Any] = []

    async def fails_late() -> None:
        begun.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ToolError("interrupted", retryable=True) from None

    house.tool(fails_late)
    assert (await house.run("fails_late", timeout=0.01)).state is State.TIMED_OUT
    assert len(begun) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("vouched", [True, False])
async def test_a_side_effect_is_tried_again_when_its_tool_vouches_that_nothing_was_sent(
    house: House, vouched: bool
) -> None:
    calls: list[int] = []

    async def refused() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ToolError("connection refused", retryable=True, nothing_sent=vouched)
        return 1

    house.tool(refused, SIDE)
    execution = await house.run("refused")
    assert (execution.state, len(calls)) == ((State.SUCCEEDED, 2) if vouched else (State.FAILED, 1))


@pytest.mark.asyncio
async def test_a_step_that_was_tried_again_by_itself_does_not_multiply_the_attempts_of_the_whole(house: House) -> None:
    calls: list[int] = []

    async def step() -> None:
        calls.append(1)
        raise ToolError("not now", retryable=True)

    async def whole() -> None:
        raise ToolCallError("TOOL_FAILED", "not now", retryable=True)

    house.tool(step)
    house.tool(whole)
    await house.run("step")
    assert len(calls) == 4
    assert (await house.run("whole")).attempts == 1


@dataclass
class Story:
    """What a backend does, attempt by attempt, under a clock that only it and the pauses move."""

    effect: Effect
    policy: RetryPolicy
    limit: float
    # How long an attempt takes, and how it ends: nothing was sent, it failed, it was lost, or it answers.
    script: list[tuple[float, str]]
    asked: int | None
    delays: list[float | None]
    now: float = 0.0
    sent: int = 0
    begun: list[float] = field(default_factory=list[float])


async def told(story: Story, folder: Path) -> str:
    """Run it; how it ended."""
    here = flight(story.effect, bounds=LogBounds(1 << 20, 0, folder))
    here.deadline = Deadline(story.limit, DeadlineSource.TOOL, story.limit, lambda: story.now)
    object.__setattr__(here.tool, "retry", story.policy)
    here.invocation.max_attempts = story.asked

    class Backend:
        unconfirmed = Stopped.NO

        async def run(self, work: Work) -> bytes:
            del work
            here.started()
            number = len(story.begun)
            story.begun.append(story.now)
            seconds, how = story.script[number % len(story.script)]
            story.now += seconds
            story.sent += how != "not sent"
            delay = story.delays[number % len(story.delays)]
            if how == "not sent":
                raise NotSent(Failure(Reason.UPSTREAM_UNAVAILABLE, "gone", retry_delay=delay))
            if how == "failed":
                raise ToolFailed(Failure(Reason.TOOL_FAILED, "failed", retryable=True, retry_delay=delay))
            if how == "lost":
                raise Lost(GONE)
            return b"1"

    async def pause(seconds: float) -> None:
        story.now += seconds

    work: Any = SimpleNamespace(arguments={})
    try:
        await attempts(here, Backend(), Chances(pause, lambda low, high: (low + high) / 2), work)
    except (NotSent, ToolFailed, Lost) as error:
        return type(error).__name__
    return "answered"


SECONDS = st.floats(0, 20, allow_nan=False)
STORIES = st.builds(
    Story,
    effect=st.sampled_from(Effect),
    policy=st.builds(RetryPolicy, st.integers(1, 6), st.just(1.0), st.floats(1, 30)),
    limit=st.floats(0.1, 60),
    script=st.lists(
        st.tuples(SECONDS, st.sampled_from(["not sent", "failed", "lost", "answers"])), min_size=1, max_size=6
    ),
    asked=st.none() | st.integers(1, 8),
    delays=st.lists(st.none() | st.floats(0, 30), min_size=1, max_size=4),
    now=st.just(0.0),
    sent=st.just(0),
    begun=st.lists(SECONDS, max_size=0),
)


@settings(max_examples=400, deadline=None)
@given(story=STORIES)
def test_no_attempt_begins_after_the_deadline_nor_beyond_what_is_allowed_nor_after_a_doubtful_one(
    tmp_path_factory: pytest.TempPathFactory, story: Story
) -> None:
    asyncio.run(told(story, tmp_path_factory.getbasetemp()))
    allowed = story.policy.attempts if story.asked is None else min(story.policy.attempts, story.asked)
    assert 1 <= len(story.begun) <= allowed
    # The first one begins at 0; a later one only with time left.
    assert all(instant < story.limit for instant in story.begun[1:])
    ways = [story.script[number % len(story.script)][1] for number in range(len(story.begun))]
    assert "lost" not in ways[:-1]
    assert "answers" not in ways[:-1]
    if story.effect is SIDE:
        assert story.sent <= 1
        assert set(ways[:-1]) <= {"not sent"}
