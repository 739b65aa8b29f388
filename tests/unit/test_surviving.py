"""The judge of the kill tests finds what would be wrong: without this nobody would know that it can."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.counter import Effect, running_counter
from tests.torture.killing import Asked, Told
from tests.torture.surviving import Survived
from toolwright.v1 import common_pb2
from toolwright.v1.common_pb2 import (
    RESULT_SOURCE_FALLBACK,
    RESULT_SOURCE_TOOL,
    STATE_FAILED,
    STATE_OUTCOME_UNKNOWN,
    STATE_RUNNING,
    STATE_SUCCEEDED,
)

OK = Told("OK", execution_id="a", state=STATE_SUCCEEDED, value="1", source=RESULT_SOURCE_TOOL)
ANOTHER = Told("OK", execution_id="b", state=STATE_SUCCEEDED, value="2", source=RESULT_SOURCE_TOOL)
FIXED = Told("OK", execution_id="a", state=STATE_SUCCEEDED, value="7", source=RESULT_SOURCE_FALLBACK, replaced="GONE")
UNKNOWN = Told("ABORTED", "OUTCOME_UNKNOWN", "a", "unknown")
DONE = Effect(1, "a", "key", intended=True)


def row(
    state: "common_pb2.State.ValueType",
    tool: str = "acting.act",
    outcome: str = "",
    name: str = "a",
    *,
    above: str = "",
) -> common_pb2.Execution:
    made = common_pb2.Execution(execution_id=name, state=state, tool=tool, parent_execution_id=above)
    made.request_id = "" if above else "key"
    if outcome:
        made.error.metadata["outcome"] = outcome
    return made


def found(
    *rows: common_pb2.Execution,
    told: tuple[Told, ...] = (),
    effects: tuple[Effect, ...] = (),
    tool: str = "acting.act",
    answer: Told = OK,
) -> Survived:
    asked = Asked("key", tool, 0, 0, "key", list(told))
    return Survived([asked], {row.execution_id: row for row in rows}, {"a": answer, "b": ANOTHER}, effects)


ORDER, KNOWN = "faltering.order_fixed", "faltering.order_known"
ELSEWHERE = Effect(1, "step", "key", intended=True)


def step(state: "common_pb2.State.ValueType", outcome: str = "") -> common_pb2.Execution:
    return row(state, "faltering.elsewhere", outcome, "step", above="a")


@pytest.mark.parametrize(
    "right",
    [
        found(row(STATE_SUCCEEDED), told=(OK, OK), effects=(DONE,)),
        found(row(STATE_OUTCOME_UNKNOWN), told=(UNKNOWN,), effects=(DONE,)),
        found(row(STATE_OUTCOME_UNKNOWN), told=(UNKNOWN,)),
        # Told before the look-up.
        found(row(STATE_SUCCEEDED, "acting.act_known"), told=(UNKNOWN,), effects=(DONE,)),
        found(
            row(STATE_FAILED, "acting.act_known", "not_started", "b"),
            row(STATE_SUCCEEDED),
            told=(OK,),
            effects=(DONE,),
        ),
        # Done by the tool in its place, of which the look-up of this one knows nothing.
        found(row(STATE_OUTCOME_UNKNOWN, KNOWN), step(STATE_OUTCOME_UNKNOWN), told=(UNKNOWN,), effects=(ELSEWHERE,)),
        found(row(STATE_SUCCEEDED, ORDER), told=(FIXED,), tool=ORDER, answer=FIXED),
    ],
)
def test_what_was_promised_is_right(right: Survived) -> None:
    assert right.wrong() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (found(told=(OK,)), "not in the history"),
        (found(row(STATE_SUCCEEDED), told=(OK,)), "happened: False"),
        (found(row(STATE_OUTCOME_UNKNOWN), told=(OK,), effects=(DONE,)), "the history says"),
        (found(row(STATE_SUCCEEDED), told=(OK, ANOTHER)), "several answers"),
        (found(row(STATE_SUCCEEDED), told=(replace(OK, attempts=2),), effects=(DONE,)), "the history says"),
        (found(row(STATE_SUCCEEDED), told=(replace(OK, replaced="GONE"),), effects=(DONE,)), "the history says"),
        (found(row(STATE_SUCCEEDED, ORDER), told=(OK,), tool=ORDER), "happened: False"),
        (
            found(row(STATE_SUCCEEDED, ORDER), told=(FIXED,), tool=ORDER, answer=FIXED, effects=(DONE,)),
            "happened: True",
        ),
        (
            found(row(STATE_FAILED, KNOWN, "not_started"), step(STATE_OUTCOME_UNKNOWN), effects=(ELSEWHERE,)),
            "happened: True",
        ),
        (
            found(row(STATE_OUTCOME_UNKNOWN, KNOWN), step(STATE_FAILED, "not_started"), told=(UNKNOWN,)),
            "happened: False",
        ),
        (found(row(STATE_SUCCEEDED), told=(UNKNOWN,), effects=(DONE,)), "the history says"),
        (found(row(STATE_OUTCOME_UNKNOWN)), "never answered"),
        (found(row(STATE_RUNNING), told=(UNKNOWN,)), "nobody settled it"),
        (found(row(STATE_FAILED, outcome="not_started"), told=(UNKNOWN,), effects=(DONE,)), "happened: True"),
        (found(row(STATE_FAILED), told=(UNKNOWN,)), "happened: False"),
        (found(row(STATE_OUTCOME_UNKNOWN, "acting.act_known"), told=(UNKNOWN,)), "the history says"),
        (found(row(STATE_SUCCEEDED), told=(OK,), effects=(DONE, DONE)), "done 2 times"),
        (found(row(STATE_SUCCEEDED), told=(OK,), effects=(Effect(1, "a", "key", intended=False),)), "its intent"),
        (found(row(STATE_SUCCEEDED), told=(OK,), effects=(DONE, Effect(2, "c", "other", intended=True))), "nothing"),
        (found(row(STATE_SUCCEEDED), told=(OK, Told("INTERNAL", "INTERNAL")), effects=(DONE,)), "no answer"),
    ],
)
def test_what_was_promised_and_does_not_hold_is_found(wrong: Survived, said: str) -> None:
    assert any(said in line for line in wrong.wrong()), wrong.wrong()


@pytest.mark.asyncio
async def test_the_counter_counts_once_for_all_and_rules_out_what_was_looked_for_in_vain(tmp_path: Path) -> None:
    with running_counter(tmp_path) as counter:
        reader, writer = await asyncio.open_unix_connection(counter.socket)

        async def ask(what: str, execution_id: str) -> dict[str, object]:
            question = {"what": what, "execution_id": execution_id, "key": "k"}
            writer.write(json.dumps(question).encode() + b"\n")
            return json.loads(await asyncio.wait_for(reader.readline(), 10))

        assert await ask("act", "one") == {"number": 1}
        assert await ask("look", "one") == {"number": 1}
        assert await ask("look", "two") == {"number": None}
        assert await ask("act", "two") == {"ruled_out": True}
        assert await ask("act", "one") == {"number": 2}
        writer.close()
        assert counter.attempts() == []
        assert counter.effects() == [Effect(1, "one", "k", None), Effect(2, "one", "k", None)]
