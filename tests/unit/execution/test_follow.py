"""Readers of an execution's events: early, late, slow, and those who leave."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.events import Event, Logged, Wrote
from toolwright_server.execution.streaming.follow import follow
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLog, MemoryEventLogs

pytestmark = pytest.mark.asyncio

PATIENCE = 5.0


@pytest.fixture
def log(tmp_path: Path) -> MemoryEventLog:
    """A log that keeps a few events in memory and nothing on disk."""
    return MemoryEventLogs(LogBounds(2_000, 0, tmp_path)).open("a")


def write(log: MemoryEventLog, count: int, size: int = 10) -> None:
    for _ in range(count):
        log.append(0.0, Wrote("output", "x" * size))


async def next_of(reader: AsyncIterator[Sequence[Event]]) -> list[int]:
    return [event.sequence for event in await asyncio.wait_for(anext(reader), PATIENCE)]


async def rest_of(reader: AsyncIterator[Sequence[Event]]) -> list[int]:
    async with asyncio.timeout(PATIENCE):
        return [event.sequence async for batch in reader for event in batch]


async def test_a_reader_gets_what_was_what_comes_and_the_end(log: MemoryEventLog) -> None:
    write(log, 2)
    reader = follow(log, 0, PATIENCE)
    assert await next_of(reader) == [1, 2]
    waiting = asyncio.create_task(next_of(reader))
    await asyncio.sleep(0)
    write(log, 1)
    assert await waiting == [3]
    log.close()
    assert await rest_of(reader) == []


async def test_a_reader_that_comes_back_goes_on_behind_what_it_saw(log: MemoryEventLog) -> None:
    write(log, 5)
    log.close()
    assert await rest_of(follow(log, 3, PATIENCE)) == [4, 5]
    assert await rest_of(follow(log, 5, PATIENCE)) == []


async def test_silence_is_told_now_and_then(log: MemoryEventLog) -> None:
    reader = follow(log, 0, 0.001)
    assert await next_of(reader) == []
    assert await next_of(reader) == []
    write(log, 1)
    assert await next_of(reader) == [1]


async def test_a_reader_stays_no_longer_than_it_can(log: MemoryEventLog) -> None:
    write(log, 1)
    assert await rest_of(follow(log, 0, PATIENCE, time.monotonic())) == [1]
    assert await rest_of(follow(log, 0, PATIENCE, time.monotonic() + 0.01)) == [1]


async def test_who_comes_back_too_late_is_told_where_to_begin(log: MemoryEventLog) -> None:
    write(log, 50)
    with pytest.raises(ToolwrightError) as caught:
        await anext(follow(log, 0, PATIENCE))
    assert caught.value.failure.reason is Reason.EVENTS_EXPIRED
    assert caught.value.failure.metadata == {"first_sequence": str(log.first_sequence)}
    log.close()
    assert (await rest_of(follow(log, log.first_sequence - 1, PATIENCE)))[-1] == 50


async def test_who_reads_too_slowly_is_told_where_it_was(log: MemoryEventLog) -> None:
    write(log, 2)
    reader = follow(log, 0, PATIENCE)
    assert await next_of(reader) == [1, 2]
    write(log, 50)
    with pytest.raises(ToolwrightError) as caught:
        await anext(reader)
    assert caught.value.failure.reason is Reason.SLOW_CONSUMER
    assert caught.value.failure.metadata == {
        "first_sequence": str(log.first_sequence),
        "last_read_sequence": "2",
    }


async def test_who_was_there_from_the_beginning_can_only_have_been_too_slow(log: MemoryEventLog) -> None:
    write(log, 50)
    with pytest.raises(ToolwrightError) as caught:
        await anext(follow(log, 0, PATIENCE, attached=True))
    assert caught.value.failure.reason is Reason.SLOW_CONSUMER


async def test_a_slow_reader_skips_what_may_be_dropped(log: MemoryEventLog) -> None:
    write(log, 1)
    reader = follow(log, 0, PATIENCE)
    assert await next_of(reader) == [1]
    for _ in range(100):
        log.append(0.0, Logged("info", "x" * 100))
    # What was gone between is no reason to end: the first event went too, but it was read.
    seen = await next_of(reader)
    assert seen[-1] == 101
    assert 2 < seen[0] <= 101
