"""The whole corridor under a clock of its own, and any mixture of waiting, failing, trying again and falling back."""

import asyncio
import time
from collections import Counter as Tally
from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.catalog.context import AsyncToolContext, ToolError
from toolwright_server.catalog.model import Effect, FallbackPolicy, RetryPolicy
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed, Work
from toolwright_server.execution.retrying import Chances
from toolwright_server.limits.model import Kind
from toolwright_server.limits.rules import CostLimits, Per, Rule, Rules, Slot, Tier

from . import virtual_time
from .house import House

# What an answer may be late, by what was promised.
LATE_SECONDS = 0.05
DEFAULT_SECONDS = 30.0
# Timers of steps are later by two milliseconds for each level, of which there are two here.
TIMERS_SECONDS = 0.005
# Longer than any tool here goes on after it was told to stop.
STUBBORN_SECONDS = 2.0


class How(StrEnum):
    """How an attempt ends. All but the first reach what the tool calls."""

    NOT_SENT = "not sent"
    FAILED = "failed"
    FAILED_FOR_GOOD = "failed for good"
    LOST = "lost"
    ANSWERS = "answers"
    # As the last, and goes on for a while when it is told to stop.
    STUBBORN = "stubborn"


@dataclass(frozen=True)
class Attempt:
    """What a tool does once; `retry_after`: what the failure says of the pause."""

    seconds: float
    how: How
    retry_after: float | None


@dataclass(frozen=True)
class Call:
    """`at`: seconds after the beginning. `through`: as a step of another tool, which has so many seconds itself."""

    at: float
    timeout: float | None
    client: float | None
    most: int | None
    through: float | None


@dataclass(frozen=True)
class Story:
    """A tool, what may answer in its place (None: nothing, empty: a fixed value), and who calls it."""

    effect: Effect
    policy: RetryPolicy
    limit: float | None
    script: list[Attempt]
    spare: list[Attempt] | None
    spare_effect: Effect
    places: int
    jitter: float
    calls: list[Call]


@dataclass
class Seen:
    """What came to the backends, by task, and how long each call took beside what it had."""

    reached: dict[str, list[tuple[str, str, float, bool]]] = field(
        default_factory=lambda: defaultdict[str, list[tuple[str, str, float, bool]]](list)
    )
    took: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    # By task: until when, and how many attempts the call itself allows.
    tasks: dict[str, tuple[float, int]] = field(default_factory=dict[str, tuple[float, int]])
    # By which a tool was told to be done, also as a step of another one.
    limits: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    refused: list[Reason] = field(default_factory=list[Reason])


async def done(attempt: Attempt) -> None:
    """Let its time pass, and fail as it says: in the words of a backend."""
    try:
        await asyncio.sleep(attempt.seconds)
    except asyncio.CancelledError:
        if attempt.how is not How.STUBBORN:
            raise
        await asyncio.sleep(STUBBORN_SECONDS)
    failure = Failure(Reason.UPSTREAM_UNAVAILABLE, "gone", retry_delay=attempt.retry_after)
    if attempt.how is How.NOT_SENT:
        raise NotSent(failure)
    if attempt.how is How.LOST:
        raise Lost(failure)
    if attempt.how is How.FAILED:
        raise ToolFailed(Failure(Reason.TOOL_FAILED, "no", retryable=True, retry_delay=attempt.retry_after))
    if attempt.how is How.FAILED_FOR_GOOD:
        raise ToolFailed(Failure(Reason.TOOL_FAILED, "never"))


def furnished(house: House, story: Story, seen: Seen) -> None:
    """Declare the tools: `remote`, `spare` in its place, and `whole`, in which `remote` is a step."""

    async def remote(work: Work) -> bytes:
        reached = seen.reached[work.task_id]
        number = sum(each[0] == work.execution_id for each in reached)
        attempt = story.script[number % len(story.script)]
        reached.append((work.execution_id, "remote", time.monotonic(), attempt.how is not How.NOT_SENT))
        seen.limits.append((work.task_id, work.deadline.at))
        work.reporter.started()
        await done(attempt)
        return b"1"

    async def spare(context: AsyncToolContext) -> int:
        assert story.spare
        reached = seen.reached[context.task_id]
        number = sum(each[0] == context.execution_id for each in reached)
        attempt = story.spare[number % len(story.spare)]
        reached.append((context.execution_id, "spare", time.monotonic(), attempt.how is not How.NOT_SENT))
        try:
            await done(attempt)
        except NotSent:
            raise ToolError("gone", retryable=True, nothing_sent=True, retry_delay=attempt.retry_after) from None
        except (ToolFailed, Lost):
            raise ToolError("no", retryable=True, retry_delay=attempt.retry_after) from None
        return 2

    async def whole(context: AsyncToolContext, before: float) -> int:
        await asyncio.sleep(before)
        return await context.call("tests.remote")

    fallback = None
    if story.spare is not None:
        fallback = FallbackPolicy(tool="tests.spare") if story.spare else FallbackPolicy(value="7")
    house.remote(remote, story.effect, retry=story.policy, timeout_seconds=story.limit, fallback=fallback)
    house.tool(spare, story.spare_effect, retry=story.policy)
    house.tool(whole)


async def called(house: House, story: Story, call: Call, seen: Seen) -> None:
    """Make a call when it is its time, and wait for what becomes of it."""
    await asyncio.sleep(call.at)
    begin = time.monotonic()
    limits = [call.timeout, call.client, DEFAULT_SECONDS, story.limit if call.through is None else None]
    limit = min(each for each in limits if each is not None)
    try:
        flight = await house.begin(
            "remote" if call.through is None else "whole",
            None if call.through is None else {"before": call.through},
            timeout=call.timeout,
            client_budget=call.client,
            max_attempts=call.most,
        )
        allowed = call.most if call.most is not None and call.through is None else story.policy.attempts
        seen.tasks[flight.execution.execution_id] = begin + limit, min(story.policy.attempts, allowed)
        execution = await outlast(flight, flight.invocation)
        assert execution.ended
    except ToolwrightError as refused:
        seen.refused.append(refused.failure.reason)
    seen.took.append((time.monotonic() - begin, limit))


async def told(story: Story, folder: Path) -> Seen:
    """All of it; what was seen."""
    house, seen = House(folder), Seen()
    house.chances = Chances(asyncio.sleep, lambda low, high: low + (high - low) * story.jitter)
    slot = Slot(Kind.RUNNING, Per.TENANT, 0.0)
    house.rules = Rules(
        (Rule("places", slot, dict.fromkeys(Tier, story.places)),), {tier: CostLimits(0, 0) for tier in Tier}
    )
    furnished(house, story, seen)
    async with asyncio.TaskGroup() as group:
        for call in story.calls:
            group.create_task(called(house, story, call, seen))
    # Whoever goes on after the end of its execution is still watched.
    await asyncio.sleep(STUBBORN_SECONDS + 1)
    await house.close()
    return seen


def wrong(story: Story, seen: Seen) -> list[str]:
    """What must not be, a line each."""
    found = [f"{took:.4f} s of {limit:.4f} s" for took, limit in seen.took if took > limit + LATE_SECONDS]
    # Nothing but that there was no place in time.
    expected = {Reason.CONCURRENCY_LIMITED, Reason.CLIENT_DEADLINE, Reason.TOOL_TIMEOUT}
    found += [f"refused: {reason.name}" for reason in seen.refused if reason not in expected]
    for task, limit in seen.limits:
        if limit > seen.tasks[task][0] + TIMERS_SECONDS:
            found.append(f"{task}: has until {seen.tasks[task][0]}, and its tool until {limit}")
    for task, reached in seen.reached.items():
        until, allowed = seen.tasks[task]
        for (_, tool), count in Tally((execution, tool) for execution, tool, _, _ in reached).items():
            most = allowed if tool == "remote" else story.policy.attempts
            if count > most:
                found.append(f"{task}: {count} attempts of {tool}, {most} are allowed")
        if len({(execution, tool) for execution, tool, _, _ in reached}) > len({tool for _, tool, _, _ in reached}):
            found.append(f"{task}: it was begun twice: {reached}")
        found += [f"{task}: {each} began after {until}" for each in reached if each[2] > until + TIMERS_SECONDS]
        if story.effect is Effect.SIDE_EFFECT:
            sent = [number for number, each in enumerate(reached) if each[3] and each[1] == "remote"]
            if sent and sent[0] != len(reached) - 1:
                found.append(f"{task}: {reached[sent[0] + 1 :]} after it may have happened")
    return found


SECONDS = st.one_of(st.just(0.0), st.floats(0.001, 0.5), st.floats(0.001, 2.0), st.floats(0.001, 40.0))
LIMITS = st.floats(0.05, 20.0)
SCRIPTS = st.lists(
    st.builds(
        Attempt,
        SECONDS,
        # Those that go on are more than those that end it.
        st.sampled_from([*How, *[How.NOT_SENT] * 3, *[How.FAILED] * 2, How.STUBBORN]),
        st.none() | SECONDS,
    ),
    min_size=1,
    max_size=5,
)
NO_MORE_THAN = {
    Effect.READ_ONLY: [Effect.READ_ONLY],
    Effect.IDEMPOTENT: [Effect.READ_ONLY, Effect.IDEMPOTENT],
    Effect.SIDE_EFFECT: list(Effect),
}
EFFECTS = st.sampled_from([(each, other) for each in Effect for other in NO_MORE_THAN[each]])


@st.composite
def stories(draw: st.DrawFn) -> Story:
    effect, spare_effect = draw(EFFECTS)
    return Story(
        effect=effect,
        policy=draw(st.builds(RetryPolicy, st.integers(1, 5), st.floats(0.01, 1.0), st.floats(1.0, 8.0))),
        limit=draw(st.none() | LIMITS),
        script=draw(SCRIPTS),
        spare=draw(st.none() | st.just([]) | SCRIPTS),
        spare_effect=spare_effect,
        places=draw(st.integers(1, 3)),
        jitter=draw(st.floats(0, 1)),
        calls=draw(
            st.lists(
                st.builds(
                    Call,
                    st.floats(0, 3.0),
                    st.none() | LIMITS,
                    st.none() | LIMITS,
                    st.none() | st.integers(1, 7),
                    st.none() | st.floats(0, 3.0),
                ),
                min_size=1,
                max_size=5,
            )
        ),
    )


# Should it fail, the smallest story that does is looked for.
@pytest.mark.timeout(300)
@settings(max_examples=300, deadline=None)
@given(story=stories())
def test_no_mixture_of_delays_failures_and_queues_passes_the_deadline_or_the_attempts_or_sends_a_doubtful_call_again(
    tmp_path_factory: pytest.TempPathFactory, story: Story
) -> None:
    seen = virtual_time.run(told(story, tmp_path_factory.getbasetemp()))
    assert len(seen.took) == len(story.calls)
    found = wrong(story, seen)
    assert not found, "\n".join(found)
