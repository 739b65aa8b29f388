"""Who is put in the place of a process that ended, and when; with real programs."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from tests.unit.supervision import processes
from tests.unit.supervision.processes import SECONDS, started
from toolwright_server.supervision.backoff import Backoff, BackoffOptions
from toolwright_server.supervision.link import Report
from toolwright_server.supervision.process import ServerProcess
from toolwright_server.supervision.slot import Slot

pytestmark = pytest.mark.asyncio
QUICK = BackoffOptions(first_seconds=0.01, longest_seconds=0.04, steady_seconds=600)


class Kept:
    """What a slot tells of its processes."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.replacements = 0

    def retire(self, report: Report) -> None:
        self.reports.append(report)

    def replaced(self) -> None:
        self.replacements += 1


class Line:
    """Processes that are started one after the other; the last program again and again."""

    def __init__(self, *programs: str) -> None:
        self.programs = list(programs)
        self.begun: list[ServerProcess] = []
        self._changed = asyncio.Event()

    def next(self) -> ServerProcess:
        program = self.programs.pop(0) if len(self.programs) > 1 else self.programs[0]
        self.begun.append(started(program, len(self.begun) + 1))
        self._changed.set()
        return self.begun[-1]

    async def until(self, check: Callable[[], bool]) -> None:
        while not check():
            self._changed.clear()
            await self._changed.wait()


async def test_a_process_that_ends_is_replaced_and_a_drained_one_is_not() -> None:
    async with asyncio.timeout(SECONDS):
        line, kept = Line(processes.SERVES), Kept()
        slot = Slot(line.next, Backoff(QUICK), kept)
        running = asyncio.create_task(slot.run())
        await line.until(lambda: len(line.begun) == 1)
        await line.begun[0].ready
        await line.begun[0].ask(SECONDS)
        slot.kill()
        await line.until(lambda: len(line.begun) == 2)
        assert slot.process is line.begun[1]
        await line.begun[1].ready
        slot.end()
        assert await running == 0
        assert kept.replacements == 1
        assert len(kept.reports) == 2


async def test_a_process_that_cannot_live_is_started_ever_more_rarely_and_each_step_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with asyncio.timeout(SECONDS):
        line, kept = Line(processes.CRASHES), Kept()
        slot = Slot(line.next, Backoff(QUICK), kept)
        with caplog.at_level(logging.WARNING):
            running = asyncio.create_task(slot.run())
            await line.until(lambda: len(line.begun) == 6)
            slot.end()
            await running
        said = [record.getMessage().partition("; ")[2] for record in caplog.records if "exit code 3" in record.message]
        when = ["now", "in 0.01 s", "in 0.02 s", "in 0.04 s", "in 0.04 s"]
        assert said[:5] == [f"the next one is started {each}" for each in when]
        assert len(said) <= 6


async def test_a_slot_that_waits_to_start_one_ends_at_once() -> None:
    async with asyncio.timeout(SECONDS):
        line, kept = Line(processes.CRASHES), Kept()
        slot = Slot(line.next, Backoff(BackoffOptions(first_seconds=600, longest_seconds=600)), kept)
        running = asyncio.create_task(slot.run())
        await line.until(lambda: len(line.begun) == 2)
        await line.begun[1].ended
        await asyncio.sleep(0)
        slot.end()
        assert await running is None or line.begun[1].ended.result() == 3
        assert kept.replacements == 1


async def test_the_second_order_kills_a_process_that_has_not_served_yet() -> None:
    async with asyncio.timeout(SECONDS):
        line = Line("time.sleep(600)")
        slot = Slot(line.next, Backoff(QUICK), Kept())
        running = asyncio.create_task(slot.run())
        await line.until(lambda: len(line.begun) == 1)
        slot.end()
        slot.end()
        assert await running == -9


async def test_a_machine_that_can_start_no_process_is_asked_again() -> None:
    async with asyncio.timeout(SECONDS):
        line, failures = Line(processes.SERVES), [OSError(11, "Resource temporarily unavailable")] * 3

        def start() -> ServerProcess:
            if failures:
                raise failures.pop()
            return line.next()

        slot = Slot(start, Backoff(QUICK), Kept())
        running = asyncio.create_task(slot.run())
        await line.until(lambda: len(line.begun) == 1)
        await line.begun[0].ready
        slot.end()
        assert await running == 0
