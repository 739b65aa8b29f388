"""What the processes of a server say together: one page of metrics, one word on health. Decides nothing about them."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from toolwright_server.supervision.link import Report
from toolwright_server.supervision.slot import Slot
from toolwright_server.telemetry.instruments import Counter, Gauge, MetricSnapshot
from toolwright_server.telemetry.merging import lasting, merged
from toolwright_server.telemetry.prometheus import render

# Longer than a process needs to report on a machine that has more to do than it can.
_ANSWER_SECONDS = 1.0
# Of the whole page: what a process had no time to say is left out, and the page answers.
_PAGE_SECONDS = 5.0

_Answer = TypeVar("_Answer")


class Whole:
    """`health` and `metrics` are asked by threads, and ask the processes; everything else happens on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.slots: Sequence[Slot] = ()
        self._loop = loop
        # What ended processes counted, so that no sum falls.
        self._retired: list[MetricSnapshot] = []
        self._replaced = Counter(
            "toolwright.server.processes.replaced", "{process}", "Server processes that took the place of an ended one."
        )
        self._running = Gauge(
            "toolwright.server.processes", "{process}", "Server processes that serve.",
            lambda: sum(_serves(slot) for slot in self.slots), kind="updown",
        )  # fmt: skip

    def retire(self, report: Report) -> None:
        self._retired = merged([("", self._retired), ("", lasting(report["metrics"]))])

    def replaced(self) -> None:
        self._replaced.add()

    def health(self) -> tuple[bool, str]:
        """Whether at least one process is well, how many are, and what is wrong with the others. From a thread."""
        return self._from_loop(self._health())

    def metrics(self) -> str:
        """The page of metrics. From a thread."""
        return render(self._from_loop(self._metrics()))

    def own(self) -> list[MetricSnapshot]:
        """What is counted here, of the processes."""
        return [self._running.snapshot(), self._replaced.snapshot()]

    async def refresh(self) -> frozenset[Slot]:
        """Have all processes report; those in whose slots one did in time."""
        answers = await asyncio.gather(*(_ask(slot) for slot in self.slots))
        return frozenset(slot for slot, answered in zip(self.slots, answers, strict=True) if answered)

    async def _health(self) -> tuple[bool, str]:
        answered = await self.refresh()
        wrong = [sentence for slot in self.slots if (sentence := _wrong(slot, answered))]
        count = len(self.slots)
        text = f"{count - len(wrong)} of {count} processes are healthy"
        return len(wrong) < count, "\n".join([text, *wrong])

    async def _metrics(self) -> list[MetricSnapshot]:
        await self.refresh()
        parts = [
            (process.server_id, process.report["metrics"])
            for slot in self.slots
            if (process := slot.process) is not None and process.report is not None
        ]
        return [*self.own(), *merged([("", self._retired), *parts])]

    def _from_loop(self, asked: Coroutine[Any, Any, _Answer]) -> _Answer:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result(_PAGE_SECONDS)


async def _ask(slot: Slot) -> bool:
    return slot.process is not None and await slot.process.ask(_ANSWER_SECONDS)


def _serves(slot: Slot) -> bool:
    return slot.process is not None and slot.process.served_at is not None and not slot.process.ended.done()


def _wrong(slot: Slot, answered: frozenset[Slot]) -> str:
    process = slot.process
    if process is None or process.ended.done():
        return f"{process.server_id if process else 'a process'}: is not running"
    if process.served_at is None:
        return f"{process.server_id}: is starting"
    if slot not in answered or process.report is None:
        return f"{process.server_id}: does not answer"
    return "" if process.report["healthy"] else f"{process.server_id}: {process.report['why']}"
