"""Whoever opens, writes or ends an artifact may be cancelled at any moment: nothing stays open, no file is left."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.live import eventually
from toolwright_server.artifacts.desk import Desk, Room
from toolwright_server.artifacts.model import ArtifactLimits, ArtifactRefused, Draft
from toolwright_server.artifacts.writing import PART, ArtifactFile
from toolwright_server.backends.async_artifact import PIECE_BYTES, AsyncArtifact
from toolwright_server.stores.files.artifacts import FileArtifacts

pytestmark = pytest.mark.asyncio

ID = "01970000-0000-7000-8000-000000000000"


def left(folder: Path) -> list[str]:
    """What is open of the folder, also what is deleted, and what lies in it."""
    found = [path.name for path in folder.iterdir() if not path.is_fifo()]
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            target = descriptor.readlink()
            found += [f"open {target.name}"] if target.parent == folder else []
    return found


async def cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class SlowDesk(Desk):
    """Waits, when one is begun, until it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(ArtifactLimits(1 << 24, 4, 0), Room(1 << 26), lambda number: f"{folder}/{number}{PART}")
        self.is_asked, self.go = threading.Event(), threading.Event()

    def open(self, name: str, media_type: str) -> Draft:
        self.is_asked.set()
        assert self.go.wait(10)
        return super().open(name, media_type)

    def begun(self) -> AsyncArtifact:
        return AsyncArtifact(ArtifactFile(lambda: self, "a.txt", "text/plain"))


@pytest_asyncio.fixture(autouse=True)
async def one_thread() -> None:
    """All that the loop has: what is asked of it is done in order."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


async def is_done() -> None:
    """Whatever was asked of the thread before, it has done."""
    await asyncio.to_thread(int)


@asynccontextmanager
async def busy_thread() -> AsyncGenerator[threading.Event]:
    """It does nothing else until the event is set."""
    release = threading.Event()
    busy = asyncio.get_running_loop().run_in_executor(None, release.wait, 10)
    yield release
    release.set()
    await busy


async def test_who_is_cancelled_while_an_artifact_is_opened_for_reading_leaves_nothing_open(tmp_path: Path) -> None:
    files = FileArtifacts.open(tmp_path)
    pipe = tmp_path / f"{ID}.1"
    os.mkfifo(pipe)  # opened only when somebody opens its other end

    async def read() -> None:
        async with files.reading(ID, 1):
            raise AssertionError("nobody has opened the other end")

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    await cancelled(task)
    other_end: list[int] = []

    def is_waited_for() -> bool:
        with suppress(OSError):
            other_end.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(other_end)

    eventually(is_waited_for)
    os.close(other_end[0])
    await is_done()
    assert left(tmp_path) == []


async def test_who_is_cancelled_while_an_artifact_is_begun_leaves_nothing_of_it(tmp_path: Path) -> None:
    desk = SlowDesk(tmp_path)

    async def write() -> None:
        async with desk.begun():
            raise AssertionError("it was cancelled before")

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    assert desk.is_asked.wait(10)
    task.cancel()
    await asyncio.sleep(0)
    desk.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await is_done()
    assert left(tmp_path) == []
    # It was begun all the same, and is no artifact.
    assert (len(desk.numbers), desk.end(keep=True, expire_time=None)) == (1, ())


async def test_who_is_cancelled_before_a_thread_is_free_begins_nothing_afterwards(tmp_path: Path) -> None:
    desk = SlowDesk(tmp_path)
    desk.go.set()
    artifact = desk.begun()
    async with busy_thread() as release:
        task = asyncio.create_task(artifact.__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ArtifactRefused):
            await artifact.__aenter__()
    assert (len(desk.numbers), left(tmp_path)) == (0, [])


@pytest.mark.parametrize("step", ["write", "end", "leave by an exception"])
async def test_who_is_cancelled_while_a_step_waits_for_a_thread_leaves_nothing(tmp_path: Path, step: str) -> None:
    desk = SlowDesk(tmp_path)
    desk.go.set()
    written = asyncio.Event()

    async def write() -> None:
        async with desk.begun() as file:
            await file.write(b"x" * 100)
            written.set()
            await asyncio.sleep(0)
            if step == "write":
                await file.write(b"x" * PIECE_BYTES)
            if step == "leave by an exception":
                raise ValueError

    task = asyncio.create_task(write())
    await written.wait()
    async with busy_thread() as release:
        for _ in range(5):  # turns of the loop in which it comes to wait for the thread
            await asyncio.sleep(0)
        assert left(tmp_path)
        task.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    await is_done()
    assert left(tmp_path) == []
    assert desk.end(keep=True, expire_time=None) == ()


async def test_a_write_that_was_given_up_ends_the_artifact(tmp_path: Path) -> None:
    desk = SlowDesk(tmp_path)
    desk.go.set()
    file = desk.begun()
    await file.__aenter__()
    async with busy_thread() as release:
        writing = asyncio.create_task(file.write(b"x" * PIECE_BYTES))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
    with pytest.raises(ArtifactRefused):
        await file.__aexit__(None, None, None)
    assert (left(tmp_path), desk.end(keep=True, expire_time=None)) == ([], ())


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_tool_that_is_thrown_away_unfinished_leaves_nothing_and_cannot_wait_for_it(
    tmp_path: Path, steps: int
) -> None:
    desk = SlowDesk(tmp_path)
    desk.go.set()

    async def write() -> None:
        async with desk.begun() as artifact:
            await artifact.write(b"half")
            await asyncio.get_running_loop().create_future()

    # As the interpreter does with what no task runs any more: first while it begins, then in the midst of it.
    tool = write()
    for step in range(steps):
        waits_for = tool.send(None)
        waits_for._asyncio_future_blocking = False
        if step == 0:
            await waits_for
    tool.close()
    assert left(tmp_path) == []
