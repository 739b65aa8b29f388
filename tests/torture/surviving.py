"""Compares what callers were told with the history and with the side effects that were counted elsewhere.

Each thing that is wrong is one line of text; a test asserts that there are none.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.counter import Effect
from tests.torture.killing import ACTS, KNOWN, Asked, Stubs, Told, told_by
from toolwright.v1 import common_pb2, tool_execution_pb2

PAGE = 1000
ENDED = range(common_pb2.STATE_SUCCEEDED, common_pb2.STATE_UNDONE + 1)
AT_ONCE = 32

Row = common_pb2.Execution


@dataclass(frozen=True)
class Survived:
    """All there is to know afterwards. `answers`: what the history answers of the executions that callers know."""

    asked: Sequence[Asked]
    rows: Mapping[str, Row]
    answers: Mapping[str, Told]
    effects: Sequence[Effect]

    @cached_property
    def steps(self) -> Mapping[str, Sequence[Row]]:
        """The steps of each execution that has some."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows.values():
            if row.parent_execution_id:
                found[row.parent_execution_id].append(row)
        return found

    def root(self, execution_id: str) -> str:
        """The call that an execution is, or is a step of."""
        row = self.rows.get(execution_id)
        return row.task_id if row is not None else execution_id

    def wrong(self, explained: Collection[str] = ()) -> list[str]:
        """What must not be, a line each. `explained` are reasons that callers may have been given besides."""
        return [
            *self._wrong_answers(),
            *self._doubted_wrongly(explained),
            *self._wrong_effects(),
            *self._wrong_rows(),
        ]

    def _wrong_answers(self) -> Iterator[str]:
        """Every answered call is in the history as it was answered, and one request has one answer."""
        for asked in self.asked:
            for told in asked.answers:
                row = self.rows.get(told.execution_id)
                if row is None:
                    yield f"{asked.key}: answered by {told.execution_id}, which is not in the history"
                elif (row.state, row.request_id, row.tool) != (told.state, asked.request_id, asked.tool):
                    yield f"{asked.key}: told {told}, but the history says {_brief(row)}"
                elif self.answers[told.execution_id] != told:
                    yield f"{asked.key}: told {told}, the history says {self.answers[told.execution_id]}"
            ended_well = {told for told in asked.answers if told.state == common_pb2.STATE_SUCCEEDED}
            if asked.tool in ACTS and len(ended_well) > 1:
                yield f"{asked.key}: one request, several answers: {ended_well}"

    def _doubted_wrongly(self, explained: Collection[str]) -> Iterator[str]:
        """Who was told that nobody knows was told so of one of which nobody knows, or knew before a look-up."""
        for asked in self.asked:
            for told in asked.told:
                row = self.rows.get(told.execution_id)
                if told.code == "ABORTED":
                    looked_up = row is not None and row.tool in KNOWN
                    if row is None or (row.state != common_pb2.STATE_OUTCOME_UNKNOWN and not looked_up):
                        yield f"{asked.key}: told {told}, but the history says {_brief(row)}"
                elif told.reason == "INTERNAL" and asked.tool not in ACTS:
                    if row is None or row.state != common_pb2.STATE_FAILED:
                        yield f"{asked.key}: told {told}, but the history says {_brief(row)}"
                elif told.code != "OK" and told.reason not in explained:
                    yield f"{asked.key}: {told} is no answer that what happened explains"
            if asked.request_id and not asked.told:
                yield f"{asked.key}: never answered"

    def _wrong_effects(self) -> Iterator[str]:
        """None without its intent in the record at that moment, none twice for one request."""
        by_key: dict[str, list[Effect]] = defaultdict(list)
        for effect in self.effects:
            by_key[effect.key].append(effect)
            row = self.rows.get(effect.execution_id)
            if effect.intended is False:
                yield f"{effect}: its intent was not in the record"
            if row is None or row.tool not in ACTS:
                yield f"{effect}: the history has {_brief(row)}"
        for key, effects in by_key.items():
            if len(effects) > 1:
                yield f"{key}: done {len(effects)} times: {effects}"

    def _wrong_rows(self) -> Iterator[str]:
        """Nothing is left unfinished, and what the history says of a side effect is what happened."""
        done = {effect.execution_id for effect in self.effects}
        for row in self.rows.values():
            if row.state not in ENDED:
                yield f"{row.execution_id}: nobody settled it, it is {common_pb2.State.Name(row.state)}"
            elif row.tool in ACTS:
                happened = not done.isdisjoint({row.execution_id, *(step.execution_id for step in self._steps(row))})
                if not self._is_right(row, happened=happened):
                    yield f"{row.execution_id}: happened: {happened}, but the history says {_brief(row)}"

    def _steps(self, row: Row) -> Sequence[Row]:
        return self.steps.get(row.execution_id, ())

    def _is_right(self, row: Row, *, happened: bool) -> bool:
        if row.state == common_pb2.STATE_OUTCOME_UNKNOWN:
            return not self._must_be_known(row)
        if row.state == common_pb2.STATE_SUCCEEDED:
            # A fixed answer is one without anything having happened.
            return happened != self._is_fixed(row, happened)
        return happened != (row.error.metadata["outcome"] == "not_started")

    def _must_be_known(self, row: Row) -> bool:
        """Where it can be looked up, it was; though it says nothing of what was called in the place of the tool."""
        return row.tool in KNOWN and all(step.error.metadata["outcome"] == "not_started" for step in self._steps(row))

    def _is_fixed(self, row: Row, happened: bool) -> bool:
        answer = self.answers.get(row.execution_id)
        if answer is None:
            # Nobody was told, and lists do not say.
            return row.tool == "faltering.order_fixed" and not happened
        return answer.source == common_pb2.RESULT_SOURCE_FALLBACK and not answer.instead

    def unfinished(self) -> int:
        """How many executions have not ended, or wait for their look-up."""
        return sum(
            row.state not in ENDED or (row.state == common_pb2.STATE_OUTCOME_UNKNOWN and self._must_be_known(row))
            for row in self.rows.values()
        )

    def unknown(self) -> int:
        """How many executions ended in doubt."""
        return sum(row.state == common_pb2.STATE_OUTCOME_UNKNOWN for row in self.rows.values())

    def settled_by_look_up(self) -> int:
        """How many unanswered executions a look-up found not to have happened."""
        return sum(row.error.metadata["reconciled"] == "not_done" for row in self.rows.values())


def _brief(row: Row | None) -> str:
    """An execution in one line."""
    return "nothing" if row is None else " ".join(str(row).split())


def survived(address: str, asked: Sequence[Asked], effects: Sequence[Effect]) -> Survived:
    """Reads the history through the rpcs, as anybody would."""
    return asyncio.run(_survived(address, asked, effects))


async def _survived(address: str, asked: Sequence[Asked], effects: Sequence[Effect]) -> Survived:
    async with Stubs([address]) as stubs:
        stub = stubs.all[0]
        rows = {row.execution_id: row async for row in _history(stub)}
        told = {told.execution_id for one in asked for told in one.answers if told.execution_id in rows}
        return Survived(asked, rows, dict(await _answers(stub, told)), effects)


async def _history(stub: Any) -> AsyncIterator[Row]:
    token = ""
    while True:
        request = tool_execution_pb2.ListExecutionsRequest(page_size=PAGE, page_token=token)
        page = await stub.ListExecutions(request, timeout=30)
        for row in page.executions:
            yield row
        token = page.next_page_token
        if not token:
            return


async def _answers(stub: Any, ids: set[str]) -> list[tuple[str, Told]]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(execution_id: str) -> tuple[str, Told]:
        request = tool_execution_pb2.GetExecutionRequest(execution_id=execution_id, value_json=True)
        async with gate:
            answer = await stub.GetExecution(request, timeout=30)
        return execution_id, told_by(answer.execution)

    return list(await asyncio.gather(*map(one, ids)))
