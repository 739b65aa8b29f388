"""Work that goes on after it was told to stop, and what becomes of everything when the server ends."""

import asyncio
import logging
from typing import Any

import pytest

from toolwright_server.catalog.context import AsyncToolContext
from toolwright_server.catalog.model import Effect
from toolwright_server.execution.backend import Work
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.execution.usage import used
from toolwright_server.identity import ANONYMOUS

from .house import PATIENCE, House

pytestmark = pytest.mark.asyncio

READ, SAFE, SIDE = Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT
SHORT = 0.05


async def forever() -> None:
    await asyncio.Event().wait()


class Stubborn:
    """A tool that swallows its cancellation and goes on until it is released."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.told = asyncio.Event()
        self.release = asyncio.Event()
        self.context: AsyncToolContext | None = None

    async def __call__(self, context: AsyncToolContext) -> str:
        self.context = context
        self.running.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.told.set()
        return "done"


def stubborn(house: House, effect: Effect = READ) -> Stubborn:
    """Declare `tests.mule`."""
    made = Stubborn()

    async def mule(context: AsyncToolContext) -> str:
        return await made(context)

    house.tool(mule, effect)
    return made


async def end_of(flight: Flight) -> Execution:
    assert await flight.ended(PATIENCE)
    return flight.execution


def facts(execution: Execution) -> tuple[State, str, str | None]:
    """State, reason and what is known of the side effect."""
    assert execution.failure is not None
    return execution.state, execution.failure.reason.name, execution.failure.metadata.get("outcome")


async def said(caplog: pytest.LogCaptureFixture, words: str) -> str:
    """The first log line with these words, once there is one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for record in caplog.records:
                if words in record.getMessage():
                    return record.getMessage()
            await asyncio.sleep(0)


async def test_a_tool_that_swallows_its_cancellation_is_named_and_its_caller_answered(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    mule = stubborn(house)
    execution = await house.run("mule", timeout=SHORT)
    assert facts(execution) == (State.TIMED_OUT, "TOOL_TIMEOUT", "none")
    assert execution.stopped is Stopped.NO
    # What its caller waited counts, however long the tool goes on.
    assert used(execution).bucket is not None
    line = await said(caplog, "cannot be stopped and goes on")
    assert "tests.mule" in line
    assert execution.execution_id in line
    assert house.stubborn("mule")
    mule.release.set()
    assert execution.execution_id in await said(caplog, "after it was told to")
    assert execution.stopped is Stopped.NO


async def test_what_a_tool_reports_after_the_end_is_ignored(house: House) -> None:
    mule = stubborn(house)
    execution = await house.run("mule", timeout=SHORT)
    before, last = house.events(execution), execution.last_sequence
    assert mule.context is not None
    mule.context.progress(1)
    mule.context.output("late")
    mule.context.log("info", "late")
    assert house.events(execution) == before
    assert execution.last_sequence == last == before[-1].sequence + 1
    mule.release.set()


@pytest.mark.parametrize(
    ("effect", "state"),
    [(SIDE, State.SUCCEEDED), (SAFE, State.TIMED_OUT), (READ, State.TIMED_OUT)],
)
async def test_an_answer_inside_the_grace_counts_only_for_side_effects(
    house: House, effect: Effect, state: State
) -> None:
    async def late() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "sent after all"
        return ""

    house.tool(late, effect)
    execution = await house.run("late", timeout=SHORT)
    assert (execution.state, execution.stopped) == (state, Stopped.YES)
    assert execution.result == (b'"sent after all"' if effect is SIDE else None)


async def test_a_late_confirmation_corrects_the_record_and_nothing_else(house: House) -> None:
    dead = asyncio.Event()

    async def slow_to_die(work: Work) -> bytes:
        work.reporter.started()
        try:
            await forever()
        finally:
            await dead.wait()
        return b""

    house.remote(slow_to_die, SIDE)
    execution = await house.run("remote", timeout=SHORT)
    assert (execution.state, execution.stopped) == (State.OUTCOME_UNKNOWN, Stopped.UNKNOWN)
    sequence, end = execution.last_sequence, execution.end_time
    dead.set()
    await asyncio.wait_for(house.store.corrected.wait(), PATIENCE)
    assert (execution.state, execution.stopped) == (State.OUTCOME_UNKNOWN, Stopped.YES)
    assert (execution.last_sequence, execution.end_time) == (sequence, end)
    assert not house.stubborn("remote")


async def test_a_start_after_the_end_is_refused_and_changes_nothing(house: House) -> None:
    go, ended = asyncio.Event(), asyncio.Event()
    refusals: list[ValueError] = []

    async def too_late(work: Work) -> bytes:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        try:
            work.reporter.started()
        except ValueError as error:
            refusals.append(error)
        ended.set()
        return b""

    house.remote(too_late, SIDE)
    execution = await house.run("remote", timeout=SHORT)
    go.set()
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert len(refusals) == 1
    assert facts(execution) == (State.TIMED_OUT, "TOOL_TIMEOUT", "not_started")
    assert (execution.attempts, execution.start_time) == (0, None)


async def test_stopping_everything_settles_everything(house: House, caplog: pytest.LogCaptureFixture) -> None:
    nested = asyncio.Event()

    async def parent(context: AsyncToolContext) -> None:
        await context.call("tests.step")

    async def step() -> None:
        nested.set()
        await forever()

    async def queue(work: Work) -> bytes:
        await forever()
        return b""

    mule = stubborn(house, SIDE)
    house.tool(forever, READ)
    house.tool(parent, READ)
    house.tool(step, READ)
    house.remote(queue, SIDE)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("forever", {}),
        ("forever", {"detach": True}),
        ("parent", {}),
        ("remote", {}),
        ("mule", {}),
    ]
    flights = [await house.begin(name, **asked) for name, asked in calls]
    await mule.running.wait()
    await nested.wait()
    await asyncio.wait_for(house.executor.stop_all(Stop.DRAINING), PATIENCE)
    assert house.executor.running == 0
    kept = await house.store.list(ANONYMOUS, ExecutionQuery(100))
    assert len(kept) == len(calls) + 1
    assert all(execution.ended and execution.failure is not None for execution in kept)
    states = [flight.execution.state for flight in flights]
    assert states == [State.CANCELLED] * 4 + [State.OUTCOME_UNKNOWN]
    assert [facts(flight.execution)[2] for flight in flights] == ["none", "none", "none", "not_started", "unknown"]
    mule.release.set()
    await said(caplog, "after it was told to")


async def test_stopping_when_nothing_runs_returns_at_once(house: House) -> None:
    house.tool(forever)
    await asyncio.wait_for(house.executor.stop_all(Stop.DRAINING), PATIENCE)
    assert house.executor.running == 0
