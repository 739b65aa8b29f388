"""The rules of retention: what they ask to be erased, and what a failure of one means for the others."""

import asyncio
import logging

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.records.audit.offline.report import Fault, Report
from toolwright_server.records.audit.pruning import NotPrunable
from toolwright_server.records.retention import DAY_SECONDS, Retention, Rule

pytestmark = pytest.mark.asyncio


class Shelf:
    """Things with the times at which they ended; notes what was asked."""

    def __init__(self, *ended: float) -> None:
        self.ended = sorted(ended)
        self.asked: list[tuple[float, int]] = []

    async def erase(self, before: float, limit: int) -> int:
        self.asked.append((before, limit))
        gone = [each for each in self.ended if each < before][:limit]
        self.ended = self.ended[len(gone) :]
        return len(gone)


async def unavailable(before: float, limit: int) -> int:
    raise ToolwrightError(Reason.STORE_UNAVAILABLE, "the disk is full")


def now() -> float:
    return 100 * DAY_SECONDS


async def test_what_is_older_than_its_days_is_erased_batch_by_batch() -> None:
    shelf = Shelf(*(day * DAY_SECONDS for day in range(80, 100)))
    retention = Retention([Rule("things", 10, shelf.erase)], 60, clock=now, batch=4)
    await retention.run()
    assert shelf.ended == [day * DAY_SECONDS for day in range(90, 100)]
    assert shelf.asked == [(90 * DAY_SECONDS, 4)] * 3
    assert retention.erased == {"things": 10}


async def test_zero_days_keep_for_ever() -> None:
    shelf = Shelf(0.0)
    retention = Retention([Rule("things", 0, shelf.erase)], 60, clock=now)
    retention.start()
    await retention.run()
    await retention.close()
    assert (shelf.asked, retention.erased) == ([], {})


async def test_a_kind_that_cannot_be_erased_now_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(0.0)
    retention = Retention([Rule("stuck", 1, unavailable), Rule("things", 1, shelf.erase)], 60, clock=now)
    with caplog.at_level(logging.INFO):
        await retention.run()
    assert shelf.ended == []
    assert [record.getMessage() for record in caplog.records] == [
        "stuck older than 1 days could not be erased: the disk is full",
        "erased 1 things older than 1 days",
    ]


async def test_the_rules_are_applied_at_once_and_after_every_interval_until_the_end() -> None:
    shelf = Shelf()
    pauses: asyncio.Queue[float] = asyncio.Queue()
    go_on = asyncio.Semaphore(0)

    async def pause(seconds: float) -> None:
        pauses.put_nowait(seconds)
        await go_on.acquire()

    retention = Retention([Rule("things", 1, shelf.erase)], 60, clock=now, pause=pause)
    retention.start()
    assert await asyncio.wait_for(pauses.get(), 10) == 60
    assert len(shelf.asked) == 1
    go_on.release()
    assert await asyncio.wait_for(pauses.get(), 10) == 60
    assert len(shelf.asked) == 2
    await retention.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "retention"]


async def test_a_defect_in_one_kind_is_logged_and_keeps_no_other_from_being_erased(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(before: float, limit: int) -> int:
        raise ZeroDivisionError

    shelf = Shelf(0.0)
    await Retention([Rule("broken", 1, broken), Rule("things", 1, shelf.erase)], 60, clock=now).run()
    assert shelf.ended == []
    assert "erasing broken older than 1 days failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_trail_that_was_touched_is_left_as_it_is_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def touched(before: float, limit: int) -> int:
        report = Report()
        report.add(Fault.CHANGED, 1, "entry 3 was changed")
        raise NotPrunable(report)

    await Retention([Rule("audit entries", 1, touched)], 60, clock=now).run()
    assert "audit entries older than 1 days could not be erased: the audit trail does not verify" in caplog.text
