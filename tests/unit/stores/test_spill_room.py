"""The disk that event logs share: bounded in bytes and in files, the oldest ended ones go first."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.events import EventsGone, Wrote
from toolwright_server.execution.streaming.follow import follow
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLog, MemoryEventLogs

CHUNK = "x" * 1_000
PLENTY = 1 << 30
NAMES = ("first", "second", "third", *map(str, range(20)))


MakeLogs = Callable[..., MemoryEventLogs]


@pytest.fixture
def logs_within(tmp_path: Path) -> Generator[MakeLogs]:
    """Logs that keep nothing in memory; their files are closed in the end."""
    made: list[MemoryEventLogs] = []

    def make(folder: Path = tmp_path, *, total_bytes: int = PLENTY, files: int = 1_000) -> MemoryEventLogs:
        made.append(MemoryEventLogs(LogBounds(0, PLENTY, folder, total_bytes, files)))
        return made[-1]

    yield make
    for logs in made:
        for name in NAMES:
            logs.forget(name)


def spilled(logs: MemoryEventLogs, name: str, count: int = 10) -> MemoryEventLog:
    assert name in NAMES
    log = logs.open(name)
    for _ in range(count):
        log.append(0.0, Wrote("output", CHUNK))
    return log


def is_kept(log: MemoryEventLog) -> bool:
    try:
        return [event.sequence for event in log.after(0)] == list(range(1, log.last_sequence + 1))
    except EventsGone:
        return False


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_ended_executions_hold_no_more_files_than_the_limit_and_the_oldest_go_first(logs_within: MakeLogs) -> None:
    logs, before = logs_within(files=3), descriptors()
    kept: list[MemoryEventLog] = []
    for number in range(20):
        kept.append(spilled(logs, str(number)))
        kept[-1].close()
    assert descriptors() - before == logs.room.files == 3
    assert [is_kept(log) for log in kept] == [False] * 17 + [True] * 3


def test_ended_executions_hold_no_more_bytes_than_the_limit(logs_within: MakeLogs) -> None:
    logs = logs_within(total_bytes=35_000)
    kept: list[MemoryEventLog] = []
    for number in range(20):
        kept.append(spilled(logs, str(number)))
        kept[-1].close()
    assert logs.room.size_bytes <= 35_000
    assert [is_kept(log) for log in kept] == [False] * 17 + [True] * 3


def test_it_is_the_order_in_which_they_ended_that_counts(logs_within: MakeLogs) -> None:
    logs = logs_within(files=2)
    first, second = spilled(logs, "first"), spilled(logs, "second")
    second.close()
    first.close()
    spilled(logs, "third")
    assert (is_kept(first), is_kept(second)) == (True, False)


def test_a_running_execution_never_loses_its_file_to_another_one(logs_within: MakeLogs) -> None:
    logs = logs_within(files=1)
    first, second = spilled(logs, "first"), spilled(logs, "second")
    assert (is_kept(first), is_kept(second)) == (True, False)
    assert second.first_sequence == second.last_sequence + 1
    first.close()
    second.append(0.0, Wrote("output", CHUNK))
    assert [event.sequence for event in second.after(10)] == [11]


def test_a_running_execution_alone_keeps_its_newest_events_within_the_bytes_of_all(logs_within: MakeLogs) -> None:
    logs = logs_within(total_bytes=10_500)
    log = spilled(logs, "first", count=25)
    assert log.first_sequence > 1
    assert [event.sequence for event in log.after(log.first_sequence - 1)] == list(range(log.first_sequence, 26))
    assert logs.room.size_bytes <= 10_500


@pytest.mark.asyncio
async def test_who_attaches_again_is_told_that_the_events_have_expired(logs_within: MakeLogs) -> None:
    logs = logs_within(files=1)
    old = spilled(logs, "first")
    old.close()
    spilled(logs, "second")
    with pytest.raises(ToolwrightError) as refused:
        await anext(follow(old, 0, 1.0))
    assert refused.value.failure.reason is Reason.EVENTS_EXPIRED
    assert refused.value.failure.metadata["first_sequence"] == str(old.last_sequence + 1)


def test_what_is_forgotten_or_refused_by_the_disk_is_given_back(logs_within: MakeLogs, tmp_path: Path) -> None:
    logs = logs_within()
    spilled(logs, "first")
    spilled(logs, "second").close()
    logs.forget("first")
    logs.forget("second")
    assert (logs.room.files, logs.room.size_bytes) == (0, 0)
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    refused = logs_within(blocked)
    spilled(refused, "first")
    assert (refused.room.files, refused.room.size_bytes) == (0, 0)
