"""What is told to stop is dead when `run` ends, with everything that it started."""

import asyncio
import os
import signal

import pytest

from toolwright_server.backends.process import ProcessBackend
from toolwright_server.errors import Reason
from toolwright_server.execution.backend import Lost, ToolFailed
from toolwright_server.execution.model import Stopped

from .conftest import StartBackend
from .rig import Heard, Tools, alive, cancel, descriptors, run

pytestmark = pytest.mark.asyncio


async def all_left(heard: Heard) -> list[int]:
    await heard.until(lambda: bool(heard.of("log")))
    return [int(pid) for pid, _, _ in heard.of("progress")]


async def lost(backend: ProcessBackend, heard: Heard) -> Lost:
    with pytest.raises(Lost) as raised:
        await asyncio.wait_for(run(backend, heard), 20)
    return raised.value


async def test_a_cancelled_busy_loop_is_dead_when_run_ends(
    backend: ProcessBackend, tools: Tools, kills: list[str]
) -> None:
    heard = tools.work("process_burn")
    task = run(backend, heard)
    pid = await heard.first_progress()
    assert alive(pid)
    await cancel(task, heard)
    assert task.cancelled()
    assert not alive(pid)
    assert kills == ["cancelled"]
    assert backend.unconfirmed is Stopped.UNKNOWN


async def test_descendants_die_with_the_call_also_those_in_sessions_of_their_own(
    backend: ProcessBackend, tools: Tools
) -> None:
    heard = tools.work("process_leave_behind", {"seconds": 300})
    task = run(backend, heard)
    left = await all_left(heard)
    assert len(left) == 3
    assert all(map(alive, left))
    await cancel(task, heard)
    assert not any(map(alive, left))


async def test_descendants_are_gone_before_a_successful_answer_is_given(backend: ProcessBackend, tools: Tools) -> None:
    heard = tools.work("process_leave_behind", {"seconds": 0})
    await asyncio.wait_for(run(backend, heard), 20)
    left = await all_left(heard)
    assert len(left) == 3
    assert not any(map(alive, left))
    assert backend.idle == 2, "the worker goes on"


async def test_descendants_of_a_worker_that_dies_by_itself_die_too(backend: ProcessBackend, tools: Tools) -> None:
    heard = tools.work("process_leave_behind", {"seconds": 300})
    task = run(backend, heard)
    left = await all_left(heard)
    worker = tools.work("process_hold")
    second = run(backend, worker)
    survivor = await worker.first_progress()
    (victim,) = set(_group_of(left[0])) - {survivor}
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(Lost):
        await asyncio.wait_for(task, 20)
    assert not any(map(alive, left))
    assert alive(survivor), "another worker's call has nothing to do with it"
    await cancel(second, worker)


def _group_of(pid: int) -> list[int]:
    return [os.getpgid(pid)]


async def test_a_killed_worker_is_replaced_at_once(start: StartBackend, tools: Tools) -> None:
    backend = await start(workers=1)
    heard = tools.work("process_burn")
    task = run(backend, heard)
    await heard.first_progress()
    await cancel(task, heard)
    assert await asyncio.wait_for(run(backend, tools.work("process_echo", {"again": True})), 20) == b'{"again":true}'


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("SIGSEGV", "killed by signal 11 (SIGSEGV)"),
        ("SIGABRT", "killed by signal 6 (SIGABRT)"),
        ("SIGKILL", "killed by signal 9 (SIGKILL)"),
        ("SIGTERM", "killed by signal 15 (SIGTERM)"),
        ("exit", "exited with code 7"),
    ],
)
async def test_a_worker_that_dies_says_how(backend: ProcessBackend, tools: Tools, how: str, words: str) -> None:
    error = await lost(backend, tools.work("process_die", {"how": how}))
    assert error.failure.reason is Reason.TOOL_CRASHED
    assert words in error.failure.message
    assert backend.workers == 2 or await _full(backend, tools)


async def _full(backend: ProcessBackend, tools: Tools) -> bool:
    """The replacement takes a call."""
    first, second = tools.work("process_hold"), tools.work("process_hold")
    tasks = [run(backend, first), run(backend, second)]
    pids = {await first.first_progress(), await second.first_progress()}
    await cancel(tasks[0], first)
    await cancel(tasks[1], second)
    return len(pids) == 2


async def test_a_stopped_worker_is_killed_like_any_other(backend: ProcessBackend, tools: Tools) -> None:
    heard = tools.work("process_hold")
    task = run(backend, heard)
    os.kill(pid := await heard.first_progress(), signal.SIGSTOP)
    await cancel(task, heard)
    assert not alive(pid)


async def test_too_much_memory_is_a_failure_and_not_a_crash(
    backend: ProcessBackend, tools: Tools, kills: list[str]
) -> None:
    assert await run(backend, tools.work("process_allocate", {"size": 32 * 1024**2})) == b"33554432"
    error = await lost(backend, tools.work("process_allocate", {"size": 128 * 1024**2}))
    assert error.failure.reason is Reason.MEMORY_LIMIT
    assert await run(backend, tools.work("process_allocate", {"size": 32 * 1024**2})) == b"33554432"
    assert kills == ["memory"]


async def test_a_second_cancellation_does_not_end_the_wait_for_the_burial(
    backend: ProcessBackend, tools: Tools
) -> None:
    heard = tools.work("process_burn")
    task = run(backend, heard)
    pid = await heard.first_progress()
    heard.work.cancelled = True
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait((task,), timeout=20)
    assert task.cancelled()
    assert not alive(pid)


@pytest.mark.parametrize("what", ["noise", "no json", "no array", "unknown kind", "odd types", "endless", "close"])
async def test_whatever_is_written_into_the_connection_harms_only_the_call(
    backend: ProcessBackend, tools: Tools, kills: list[str], what: str
) -> None:
    error = await lost(backend, tools.work("process_scribble", {"what": what}))
    assert error.failure.reason is Reason.TOOL_CRASHED
    words = "closed its connection to the server" if what == "close" else "wrote into its connection to the server"
    assert words in error.failure.message
    assert kills == ([] if what == "close" else ["garbage"])
    assert await asyncio.wait_for(run(backend, tools.work("process_echo", {"fine": 1})), 20) == b'{"fine":1}'


async def test_an_answer_that_came_first_beats_the_order_to_stop(backend: ProcessBackend, tools: Tools) -> None:
    """Cancelled at every moment, a call either answered or was killed, and no worker is ever lost."""
    for turns in range(40):
        heard = tools.work("process_echo", {"turn": turns})
        task = run(backend, heard)
        for _ in range(turns % 8):
            await asyncio.sleep(0)
        await cancel(task, heard)
        assert task.cancelled() or task.result() == orjson_of(turns)
    assert await _full(backend, tools)


def orjson_of(turn: int) -> bytes:
    return f'{{"turn":{turn}}}'.encode()


async def test_two_hundred_cancelled_calls_leave_no_descriptor_and_no_process(
    backend: ProcessBackend, tools: Tools
) -> None:
    async def cancelled() -> None:
        heard = tools.work("process_hold")
        task = run(backend, heard)
        await heard.until(lambda: heard.starts == 1)
        await cancel(task, heard)

    await cancelled()
    assert await _full(backend, tools)
    before = descriptors()
    for _ in range(50):
        await asyncio.gather(*(cancelled() for _ in range(4)))
    assert await _full(backend, tools)
    assert descriptors() <= before + 2, "two descriptors for each worker, and no more"


async def test_output_that_grows_too_large_ends_the_worker(
    backend: ProcessBackend, tools: Tools, kills: list[str]
) -> None:
    heard = tools.work("process_flood", {"chunk_bytes": 1000, "chunks": 100_000, "swallow": True}, output_limit=10_000)
    error = await lost(backend, heard)
    assert error.failure.reason is Reason.OUTPUT_LIMIT
    assert len(heard.of("output")) == 10
    assert kills == ["output"]


async def test_a_flood_of_reports_leaves_the_loop_to_others(backend: ProcessBackend, tools: Tools) -> None:
    flooding = tools.work("process_count", {"steps": 50_000})
    task = run(backend, flooding)
    await flooding.first_progress()
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert await task == b"50000"
    assert len(flooding.of("progress")) == 50_000
    assert turns > 50_000 / 64, "never more than a few dozen reports at a time"


async def test_a_call_in_a_worker_that_answers_a_failure_can_be_followed_by_another(
    backend: ProcessBackend, tools: Tools, kills: list[str]
) -> None:
    for _ in range(5):
        with pytest.raises(ToolFailed):
            await run(backend, tools.work("process_fail", {"kind": "exception"}))
    assert kills == []
