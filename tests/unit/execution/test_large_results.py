"""Artifacts of a call whose tool goes on in a thread, whatever becomes of the call meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from toolwright_server.artifacts.desk import Desk
from toolwright_server.artifacts.keeper import ArtifactKeeper
from toolwright_server.artifacts.model import ArtifactLimits, ArtifactRefused
from toolwright_server.artifacts.writing import ArtifactFile
from toolwright_server.catalog.model import Effect
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.large_results import LargeResults
from toolwright_server.execution.model import Source, State
from toolwright_server.execution.outcome import Outcome
from toolwright_server.stores.files.artifacts import FileArtifacts
from toolwright_server.stores.memory.events import LogBounds

from .corridor import flight

pytestmark = pytest.mark.asyncio

SUCCEEDED = Outcome(State.SUCCEEDED, result=b'"large"')


class SlowKeeper(ArtifactKeeper):
    """Opening a desk lasts as long as `opening` does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FileArtifacts.open(folder), ArtifactLimits(1_000, 4, 10_000), None)
        self.opening: Callable[[], object] = int
        self.opened = 0

    def desk(self, execution_id: str) -> Desk:
        self.opened += 1
        self.opening()
        return super().desk(execution_id)


@pytest.fixture
def keeper(tmp_path: Path) -> SlowKeeper:
    return SlowKeeper(tmp_path / "artifacts")


@pytest.fixture
def large(keeper: SlowKeeper) -> LargeResults:
    return LargeResults(keeper, 1)


def running(tmp_path: Path) -> Flight:
    made = flight(Effect.READ_ONLY, bounds=LogBounds(1_000, 0, tmp_path / "events"))
    made.execution.move(State.RUNNING)
    return made


def write(large: LargeResults, call: Flight) -> None:
    with ArtifactFile(lambda: large.drafts(call), "late.txt", "text/plain") as file:
        file.write("late")


async def test_a_tool_and_its_value_get_one_desk_when_both_want_it_at_once(
    tmp_path: Path, keeper: SlowKeeper, large: LargeResults
) -> None:
    both = threading.Barrier(2)

    def waiting_for_another() -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)

    keeper.opening = waiting_for_another
    call = running(tmp_path)
    tool = asyncio.create_task(asyncio.to_thread(write, large, call))
    await asyncio.sleep(0)
    assert await large.inline_part(call, SUCCEEDED, 1.0) is None
    with suppress(ArtifactRefused):  # it may have come after the end
        await tool
    assert keeper.opened == 1
    assert "result.json" in [artifact.name for artifact in call.execution.artifacts]


async def test_a_desk_that_is_opened_while_the_call_ends_is_dismissed_with_it(
    tmp_path: Path, keeper: SlowKeeper, large: LargeResults
) -> None:
    is_opening, go = threading.Event(), threading.Event()

    def slowly() -> None:
        is_opening.set()
        assert go.wait(10)

    keeper.opening = slowly
    call = running(tmp_path)
    tool = asyncio.create_task(asyncio.to_thread(write, large, call))
    await asyncio.sleep(0)
    assert is_opening.wait(10)
    call.execution.move(State.FAILED)
    timer = threading.Timer(0.2, go.set)
    timer.start()
    large.recorded(call)
    timer.join()
    with suppress(ArtifactRefused):  # the call has ended
        await tool
    await keeper.close()
    assert keeper.at_work == set()
    assert await keeper.store.lying() == []
    with pytest.raises(ArtifactRefused):
        write(large, call)


async def test_what_a_tool_writes_after_something_else_has_answered_in_its_place_is_none_of_the_answer(
    tmp_path: Path, keeper: SlowKeeper, large: LargeResults
) -> None:
    call = running(tmp_path)
    write(large, call)
    call.forget_artifacts()
    call.execution.source = Source.FALLBACK
    write(large, call)
    assert await large.inline_part(call, SUCCEEDED, 1.0) is None
    assert [(each.name, each.is_value) for each in call.execution.artifacts] == [("result.json", True)]
    large.recorded(call)
    await keeper.close()
    assert keeper.room.used_bytes == len(b'"large"')
