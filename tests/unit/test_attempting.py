"""The judge of attempts finds what would be wrong, as that of side effects does (test_surviving.py)."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.counter import Attempt, Effect, running_counter
from tests.torture.attempting import Attempted
from tests.torture.auditing import Trail
from tests.torture.killing import Asked, Told
from tests.torture.surviving import Survived
from toolwright.v1 import common_pb2
from toolwright.v1.common_pb2 import RESULT_SOURCE_FALLBACK, STATE_FAILED, STATE_OUTCOME_UNKNOWN, STATE_SUCCEEDED

ALLOWED = {"faltering.act": 2, "faltering.elsewhere": 2}
TOLD = Told("OK", execution_id="a", state=STATE_SUCCEEDED, attempts=2)
REPLACED = replace(TOLD, source=RESULT_SOURCE_FALLBACK, instead="faltering.elsewhere", replaced="TOOL_FAILED")
REFUSED = Attempt("a", "key", done=False, acted=False, intended=True)
ACTED = Attempt("a", "key", done=True, acted=True, intended=True)


def row(name: str, state: "common_pb2.State.ValueType", above: str = "") -> common_pb2.Execution:
    tool = "faltering.elsewhere" if above else "faltering.act"
    return common_pb2.Execution(
        execution_id=name, state=state, tool=tool, parent_execution_id=above, task_id=above or name
    )


def judged(
    *attempts: Attempt,
    rows: tuple[common_pb2.Execution, ...] = (row("a", STATE_SUCCEEDED),),
    told: Told = TOLD,
    most: int | None = None,
    recovered: tuple[str, ...] = (),
) -> list[str]:
    asked = Asked("key", "faltering.act", 0, 0, "key", [told], most=most)
    found = Survived([asked], {each.execution_id: each for each in rows}, {told.execution_id: told}, ())
    trail = Trail(0, {name: ["intent", "recovery"] for name in recovered})
    return Attempted(found, trail, attempts, ALLOWED).wrong()


def test_attempts_that_were_allowed_and_told_are_right() -> None:
    assert judged(REFUSED, ACTED) == []
    assert judged(REFUSED, ACTED, told=replace(TOLD, attempts=0), recovered=("a",)) == []
    step = row("b", STATE_SUCCEEDED, "a")
    assert (
        judged(
            REFUSED, REFUSED, replace(ACTED, execution_id="b"), rows=(row("a", STATE_SUCCEEDED), step), told=REPLACED
        )
        == []
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (judged(REFUSED, REFUSED, ACTED, told=replace(TOLD, attempts=3)), "3 attempts came out, 2 are allowed"),
        (judged(REFUSED, ACTED, most=1), "2 attempts came out, 1 are allowed"),
        (judged(ACTED), "1 attempts came out, its caller was told"),
        (judged(REFUSED, replace(ACTED, intended=False)), "its intent was not in the record"),
        (judged(replace(ACTED, execution_id="z")), "has no execution"),
        (judged(ACTED, REFUSED), "came after it"),
        (
            judged(
                REFUSED,
                replace(ACTED, execution_id="c"),
                rows=(row("a", STATE_OUTCOME_UNKNOWN), row("c", STATE_SUCCEEDED)),
            ),
            "nobody knows of a, and it was called again",
        ),
        (judged(REFUSED, REFUSED, told=REPLACED), "its steps that succeeded are []"),
        (
            judged(REFUSED, ACTED, rows=(row("a", STATE_SUCCEEDED), row("b", STATE_SUCCEEDED, "a"))),
            "its steps that succeeded are ['faltering.elsewhere']",
        ),
        (
            judged(REFUSED, REFUSED, rows=(row("a", STATE_FAILED),), told=replace(TOLD, replaced="GONE")),
            "half of why",
        ),
    ],
)
def test_attempts_that_were_not_are_found(wrong: list[str], said: str) -> None:
    assert any(said in line for line in wrong), wrong


@pytest.mark.asyncio
async def test_the_counter_refuses_as_often_as_it_is_told_and_writes_each_attempt_down(tmp_path: Path) -> None:
    with running_counter(tmp_path) as counter:
        reader, writer = await asyncio.open_unix_connection(counter.socket)

        async def attempt(execution_id: str, *, acts: bool) -> dict[str, object]:
            question = {"what": "try", "execution_id": execution_id, "key": "k", "refused": 1, "acts": acts}
            writer.write(json.dumps(question).encode() + b"\n")
            return json.loads(await asyncio.wait_for(reader.readline(), 10))

        assert await attempt("one", acts=True) == {"refused": True}
        assert await attempt("one", acts=True) == {"number": 1}
        assert await attempt("two", acts=False) == {"refused": True}
        assert await attempt("two", acts=False) == {"number": 2}
        writer.close()
        assert counter.effects() == [Effect(1, "one", "k", None)]
        assert [(each.execution_id, each.done, each.acted) for each in counter.attempts()] == [
            ("one", False, False),
            ("one", True, True),
            ("two", False, False),
            ("two", True, False),
        ]
