import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from tests.unit.execution.corridor import row
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.elsewhere.joining import Joining
from toolwright_server.execution.model import Execution, State

pytestmark = pytest.mark.asyncio
PATIENCE = 5.0


class Elsewhere:
    """Executions that end when somebody says so; every question is kept."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.asked: list[tuple[str, ...]] = []
        self.failing = 0
        self._questions = asyncio.Condition()

    async def ended(self, execution_ids: Sequence[str]) -> Sequence[Execution]:
        self.asked.append(tuple(execution_ids))
        async with self._questions:
            self._questions.notify_all()
        if self.failing:
            self.failing -= 1
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "gone")
        return [row(execution_id=each, state=State.SUCCEEDED) for each in execution_ids if each in self.done]

    async def questions(self, count: int) -> None:
        """Wait until so many were asked."""
        async with asyncio.timeout(PATIENCE), self._questions:
            await self._questions.wait_for(lambda: len(self.asked) >= count)


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest_asyncio.fixture
async def joining(elsewhere: Elsewhere) -> AsyncIterator[Joining]:
    made = Joining(elsewhere.ended, shortest_seconds=0.001, longest_seconds=0.01)
    yield made
    await made.close()


async def test_who_waits_gets_the_execution_when_it_has_ended(joining: Joining, elsewhere: Elsewhere) -> None:
    waiting = asyncio.ensure_future(joining.ended("a"))
    await elsewhere.questions(3)
    assert not waiting.done()
    elsewhere.done.add("a")
    found = await asyncio.wait_for(waiting, PATIENCE)
    assert (found.execution_id, found.state) == ("a", State.SUCCEEDED)


async def test_what_has_ended_already_takes_one_question(joining: Joining, elsewhere: Elsewhere) -> None:
    elsewhere.done.add("a")
    await asyncio.wait_for(joining.ended("a"), PATIENCE)
    assert elsewhere.asked == [("a",)]


async def test_a_thousand_who_wait_for_one_execution_ask_one_question(joining: Joining, elsewhere: Elsewhere) -> None:
    elsewhere.done.add("a")
    found = await asyncio.wait_for(asyncio.gather(*(joining.ended("a") for _ in range(1_000))), PATIENCE)
    assert elsewhere.asked == [("a",)]
    assert len({id(each) for each in found}) == 1


async def test_all_executions_that_are_waited_for_are_in_one_question(joining: Joining, elsewhere: Elsewhere) -> None:
    waiting = [asyncio.ensure_future(joining.ended(each)) for each in "abc"]
    await elsewhere.questions(1)
    assert sorted(elsewhere.asked[0]) == ["a", "b", "c"]
    elsewhere.done.update("ab")
    await asyncio.wait_for(asyncio.gather(*waiting[:2]), PATIENCE)
    count = len(elsewhere.asked)
    await elsewhere.questions(count + 1)
    assert elsewhere.asked[-1] == ("c",)
    waiting[2].cancel()
    await asyncio.wait(waiting)


async def test_who_leaves_is_not_asked_for_any_more_and_the_questions_end(
    joining: Joining, elsewhere: Elsewhere
) -> None:
    first, second = [asyncio.ensure_future(joining.ended("a")) for _ in range(2)]
    await elsewhere.questions(1)
    first.cancel()
    await asyncio.wait((first,))
    assert joining.waiting == 1
    second.cancel()
    await asyncio.wait((second,))
    assert joining.waiting == 0
    for _ in range(10):
        await asyncio.sleep(0)
    assert not joining.asking


async def test_questions_begin_anew_after_they_ended(joining: Joining, elsewhere: Elsewhere) -> None:
    elsewhere.done.update("ab")
    await asyncio.wait_for(joining.ended("a"), PATIENCE)
    await asyncio.wait_for(joining.ended("b"), PATIENCE)
    assert elsewhere.asked == [("a",), ("b",)]


async def test_a_store_that_is_gone_for_a_while_ends_no_waiting(joining: Joining, elsewhere: Elsewhere) -> None:
    elsewhere.failing = 3
    elsewhere.done.add("a")
    found = await asyncio.wait_for(joining.ended("a"), PATIENCE)
    assert found.execution_id == "a"
    assert len(elsewhere.asked) == 4


async def test_a_broken_question_is_told_to_who_waits(elsewhere: Elsewhere) -> None:
    async def broken(_: Sequence[str]) -> Sequence[Execution]:
        raise ValueError("a defect")

    joining = Joining(broken)
    with pytest.raises(ValueError, match="a defect"):
        await asyncio.wait_for(joining.ended("a"), PATIENCE)
    assert joining.waiting == 0


async def test_whoever_waits_at_the_end_is_cancelled(elsewhere: Elsewhere) -> None:
    joining = Joining(elsewhere.ended)
    waiting = asyncio.ensure_future(joining.ended("a"))
    await elsewhere.questions(1)
    await joining.close()
    await asyncio.wait((waiting,), timeout=PATIENCE)
    assert waiting.cancelled()


async def test_intervals_grow_while_nothing_ends_and_are_short_again_for_somebody_new(elsewhere: Elsewhere) -> None:
    joining = Joining(elsewhere.ended, shortest_seconds=0.001, longest_seconds=0.004)
    first = asyncio.ensure_future(joining.ended("a"))
    await elsewhere.questions(8)
    assert joining.interval_seconds == 0.004
    elsewhere.done.add("b")
    second = asyncio.ensure_future(joining.ended("b"))
    await asyncio.sleep(0)
    assert joining.interval_seconds == 0.001
    await asyncio.wait_for(second, PATIENCE)
    first.cancel()
    await joining.close()
