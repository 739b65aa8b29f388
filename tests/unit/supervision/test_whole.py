"""What several processes say together, with real programs in the slots."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.unit.supervision import processes
from tests.unit.supervision.processes import SECONDS, started
from toolwright_server.supervision.backoff import Backoff, BackoffOptions
from toolwright_server.supervision.slot import Slot
from toolwright_server.supervision.whole import Whole

pytestmark = pytest.mark.asyncio
NEVER = BackoffOptions(first_seconds=600, longest_seconds=600)


@asynccontextmanager
async def serving(*programs: tuple[str, bool]) -> AsyncGenerator[tuple[Whole, Sequence[Slot]]]:
    """A slot for each program, which is healthy or not, once all of them serve."""
    async with asyncio.timeout(SECONDS):
        whole = Whole(asyncio.get_running_loop())
        whole.slots = [
            Slot(lambda n=n, p=program, h=healthy: started(p, n, healthy=h), Backoff(NEVER), whole)
            for n, (program, healthy) in enumerate(programs, 1)
        ]
        running = [asyncio.create_task(slot.run()) for slot in whole.slots]
        await asyncio.gather(*(slot.start().ready for slot in whole.slots))
        try:
            yield whole, whole.slots
        finally:
            for slot in whole.slots:
                slot.end()
                slot.kill()
            await asyncio.gather(*running)


def series(page: str) -> set[str]:
    return {line for line in page.splitlines() if line and not line.startswith("#")}


async def test_the_whole_is_healthy_when_all_are() -> None:
    async with serving((processes.SERVES, True), (processes.SERVES, True)) as (whole, _):
        assert await asyncio.to_thread(whole.health) == (True, "2 of 2 processes are healthy")


async def test_the_whole_is_healthy_while_one_is_and_says_what_is_wrong_with_the_others() -> None:
    async with serving((processes.SERVES, True), (processes.SERVES, False), (processes.DEAF, True)) as (whole, _):
        assert await asyncio.to_thread(whole.health) == (
            True,
            "1 of 3 processes are healthy\ntest-2: it is ill\ntest-3: does not answer",
        )


async def test_the_whole_is_not_healthy_when_none_is() -> None:
    async with serving((processes.SERVES, False)) as (whole, _):
        assert await asyncio.to_thread(whole.health) == (False, "0 of 1 processes are healthy\ntest-1: it is ill")


async def test_what_processes_count_is_added_up_and_does_not_fall_when_one_ends() -> None:
    async with serving((processes.SERVES, True), (processes.SERVES, True)) as (whole, slots):
        page = series(await asyncio.to_thread(whole.metrics))
        assert page == {
            "toolwright_server_processes 2",
            "toolwright_server_processes_replaced_total 0",
            "asked_total 2",
        }
        assert slots[0].process is not None
        slots[0].process.kill()
        await slots[0].process.ended
        # The next one is started at once.
        while slots[0].process.ended.done():  # noqa: ASYNC110 (nobody tells, and it is a turn of the loop away)
            await asyncio.sleep(0)
        await slots[0].process.ready
        page = series(await asyncio.to_thread(whole.metrics))
        assert page == {
            "toolwright_server_processes 2",
            "toolwright_server_processes_replaced_total 1",
            "asked_total 4",
        }


async def test_many_who_ask_at_once_are_all_answered() -> None:
    async with serving((processes.SERVES, True)) as (whole, _):
        answers = await asyncio.gather(*(asyncio.to_thread(whole.health) for _ in range(16)))
        assert set(answers) == {(True, "1 of 1 processes are healthy")}
