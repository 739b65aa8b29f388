"""One process and its link, with real programs at the other end."""

import asyncio
import os
import signal

import psutil
import pytest

from tests.live import eventually
from tests.unit.supervision import processes
from tests.unit.supervision.processes import SECONDS, started
from toolwright_server.supervision.process import said

pytestmark = pytest.mark.asyncio


def stopped(pid: int) -> None:
    """Until the process stands still."""
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, SECONDS)


async def test_a_process_says_that_it_serves_reports_when_asked_and_ends_when_told() -> None:
    async with asyncio.timeout(SECONDS):
        process = started(processes.SERVES)
        assert not await process.ask(SECONDS)
        await process.ready
        assert process.address == "127.0.0.1:1"
        assert await process.ask(SECONDS)
        assert process.report is not None
        assert process.report["healthy"]
        assert process.report["metrics"][0]["points"][0]["value"] == 1
        process.end()
        assert await process.ended == 0


async def test_the_last_report_comes_with_the_end() -> None:
    async with asyncio.timeout(SECONDS):
        process = started(processes.SERVES)
        await process.ready
        process.end()
        await process.ended
        assert process.report is not None


async def test_who_asks_at_once_gets_one_answer() -> None:
    async with asyncio.timeout(SECONDS):
        process = started(processes.SERVES)
        await process.ready
        assert await asyncio.gather(*(process.ask(SECONDS) for _ in range(20))) == [True] * 20
        assert process.report is not None
        assert process.report["metrics"][0]["points"][0]["value"] == 1
        process.end()
        await process.ended


async def test_a_process_that_does_not_answer_holds_up_nobody_and_is_asked_again() -> None:
    async with asyncio.timeout(SECONDS):
        process = started(processes.SERVES)
        await process.ready
        os.kill(process.pid, signal.SIGSTOP)
        await asyncio.to_thread(stopped, process.pid)
        assert not await process.ask(0.05)
        os.kill(process.pid, signal.SIGCONT)
        assert await process.ask(SECONDS)
        process.kill()
        assert await process.ended == -signal.SIGKILL


async def test_a_process_that_dies_answers_nobody() -> None:
    async with asyncio.timeout(SECONDS):
        process = started(processes.DEAF)
        await process.ready
        asking = asyncio.create_task(process.ask(SECONDS))
        await asyncio.sleep(0)
        process.kill()
        assert not await asking
        assert await process.ended == -signal.SIGKILL
        assert not await process.ask(SECONDS)
        process.end()
        process.kill()


async def test_an_order_that_comes_before_anybody_can_obey_is_not_forgotten() -> None:
    async with asyncio.timeout(SECONDS):
        process = started(processes.SLOW)
        process.end()
        assert await process.ended == 0


async def test_no_descriptor_is_left_of_a_process_that_has_ended() -> None:
    async with asyncio.timeout(SECONDS):
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (how many, not which)
        for _ in range(5):
            process = started(processes.CRASHES)
            assert await process.ended == 3
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "ended with exit code 3"), (-9, "was killed by SIGKILL"), (-40, "was killed by signal 40")],
)
async def test_an_end_is_said_in_words(code: int, words: str) -> None:
    assert said(code) == words
