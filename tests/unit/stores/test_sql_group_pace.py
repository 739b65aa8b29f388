"""When the writer begins a group: at once for who is alone, a little later among many."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.group import Outcome, Pending
from toolwright_server.stores.sql.writer import Writer, WriterOptions

from .written import row

pytestmark = pytest.mark.asyncio

PATIENCE = 5.0


class Played:
    """A Sink whose commits end when the test says so."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.begun = asyncio.Event()
        self._end: Callable[[], None] | None = None

    async def open(self) -> None:
        """Nothing is opened."""

    async def close(self) -> None:
        """Nothing is closed."""

    def write(self, items: Sequence[Pending], done: Callable[[Outcome], None]) -> None:
        names = [item.change.execution.execution_id for item in items if item.change.execution is not None]
        self.groups.append(names)
        self._end = lambda: done([None] * len(items))
        self.begun.set()

    async def end(self) -> None:
        """Wait for the group that is being committed, and let it be kept."""
        await asyncio.wait_for(self.begun.wait(), PATIENCE)
        self.begun.clear()
        assert self._end is not None
        self._end()


async def opened(options: WriterOptions) -> tuple[Writer, Played]:
    sink = Played()
    writer = Writer(sink, options)
    await writer.open()
    return writer, sink


async def test_after_a_group_of_several_the_next_one_gathers_more() -> None:
    writer, sink = await opened(WriterOptions(rest_ratio=1e9, rest_seconds=0.05))
    together = [writer.submit(Change(row(name))) for name in ("a", "b")]
    await asyncio.wait_for(sink.begun.wait(), PATIENCE)
    early = writer.submit(Change(row("c")))
    await sink.end()
    assert sink.groups == [["a", "b"]]
    await asyncio.wait_for(asyncio.gather(*together), PATIENCE)
    late = writer.submit(Change(row("d")))
    await sink.end()
    await asyncio.wait_for(asyncio.gather(early, late), PATIENCE)
    assert sink.groups == [["a", "b"], ["c", "d"]]


async def test_who_is_alone_waits_for_nobody() -> None:
    writer, sink = await opened(WriterOptions(rest_ratio=1e9, rest_seconds=3_600.0))
    first = writer.submit(Change(row("a")))
    await asyncio.wait_for(sink.begun.wait(), PATIENCE)
    second = writer.submit(Change(row("b")))
    await sink.end()
    assert sink.groups == [["a"], ["b"]]
    await sink.end()
    await asyncio.wait_for(asyncio.gather(first, second), PATIENCE)


async def test_a_queue_that_fills_a_group_is_not_kept_waiting() -> None:
    writer, sink = await opened(WriterOptions(group_changes=2, rest_ratio=1e9, rest_seconds=3_600.0))
    futures = [writer.submit(Change(row(name))) for name in ("a", "b", "c", "d")]
    await sink.end()
    await sink.end()
    await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)
    assert sink.groups == [["a", "b"], ["c", "d"]]
