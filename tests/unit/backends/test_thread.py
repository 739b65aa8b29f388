"""What only threads do: they cannot be stopped, and nobody pretends otherwise."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from toolwright_server.backends.thread import ThreadBackend
from toolwright_server.errors import Reason
from toolwright_server.execution.backend import NotSent
from toolwright_server.execution.model import Stopped

from .rig import Tools, cancel, run

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def threads() -> AsyncGenerator[ThreadBackend]:
    backend = ThreadBackend(threads=1, queue_limit=1)
    yield backend
    await backend.close()


async def test_run_ends_only_when_the_function_has_ended(threads: ThreadBackend, tools: Tools, tmp_path: Path) -> None:
    heard = tools.work("thread_hold", {"path": str(tmp_path / "gate")})
    task = run(threads, heard)
    await heard.first_progress()
    task.cancel()  # not through the executor: the tool is not told
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    (tmp_path / "gate").touch()
    assert await asyncio.wait_for(task, 20) == b'"released"'
    assert threads.unconfirmed is Stopped.NO


async def test_a_thread_can_see_that_it_is_told_to_stop(threads: ThreadBackend, tools: Tools) -> None:
    heard = tools.work("thread_hold", {"path": "/nonexistent"})
    task = run(threads, heard)
    await heard.first_progress()
    await cancel(task, heard)
    assert task.result() == b'"told to stop"'


async def test_calls_beyond_the_line_are_refused_and_cancelled_ones_never_start(
    threads: ThreadBackend, tools: Tools
) -> None:
    heard = tools.work("thread_hold", {"path": "/nonexistent"})
    holding = run(threads, heard)
    await heard.first_progress()
    waiting = tools.work("thread_echo")
    task = run(threads, waiting)
    await asyncio.sleep(0)
    assert threads.queued == 1
    with pytest.raises(NotSent) as raised:
        await run(threads, tools.work("thread_echo"))
    assert raised.value.failure.reason is Reason.CONCURRENCY_LIMITED
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiting.starts == 0
    await cancel(holding, heard)


async def test_a_nested_call_never_waits_for_its_ancestors_thread(threads: ThreadBackend, tools: Tools) -> None:
    async def nested(tool: str, arguments: object) -> object:
        try:
            return (await run(threads, tools.work("thread_nest", _ARGUMENTS, nested=True, call=deeper))).decode()
        except NotSent as error:
            return error.failure.reason.name

    async def deeper(tool: str, arguments: object) -> object:
        with pytest.raises(NotSent) as raised:
            await run(threads, tools.work("thread_echo", nested=True))
        return raised.value.failure.reason.name

    heard = tools.work("thread_nest", _ARGUMENTS, call=nested)
    assert b"CONCURRENCY_LIMITED" in await asyncio.wait_for(run(threads, heard), 20)
    assert threads.threads == 1, "the extra one has retired"


_ARGUMENTS: dict[str, Any] = {"tool": "any", "arguments": {}}


async def test_closing_ends_the_threads(tools: Tools) -> None:
    before = threading.active_count()
    backend = ThreadBackend(threads=2, queue_limit=1)
    await asyncio.gather(*(run(backend, tools.work("thread_echo")) for _ in range(2)))
    ours = [thread for thread in threading.enumerate() if thread.name == "toolwright-tool"]
    await backend.close()
    for thread in ours:
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()
    assert before >= 1


async def test_closing_refuses_what_waits(tools: Tools) -> None:
    backend = ThreadBackend(threads=1, queue_limit=1)
    heard = tools.work("thread_hold", {"path": "/nonexistent"})
    holding = run(backend, heard)
    await heard.first_progress()
    waiting = run(backend, tools.work("thread_echo"))
    await asyncio.sleep(0)
    await backend.close()
    with pytest.raises(NotSent, match="shutting down"):
        await asyncio.wait_for(waiting, 20)
    await cancel(holding, heard)
