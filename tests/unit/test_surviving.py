"""The judge of the kill tests finds what would be wrong: without this nobody would know that it can."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.counter import Effect, running_counter
from tests.torture.killing import Asked, Told
from tests.torture.surviving import Survived
from toolwright.v1 import common_pb2
from toolwright.v1.common_pb2 import STATE_FAILED, STATE_OUTCOME_UNKNOWN, STATE_RUNNING, STATE_SUCCEEDED

OK = Told("OK", execution_id="a", state=STATE_SUCCEEDED, value="1")
UNKNOWN = Told("ABORTED", "OUTCOME_UNKNOWN", "a", "unknown")
DONE = Effect(1, "a", "key", intended=True)


def row(
    state: "common_pb2.State.ValueType", tool: str = "acting.act", outcome: str = "", name: str = "a"
) -> common_pb2.Execution:
    made = common_pb2.Execution(execution_id=name, state=state, tool=tool, request_id="key")
    if outcome:
        made.error.metadata["outcome"] = outcome
    return made


def found(*rows: common_pb2.Execution, told: tuple[Told, ...] = (), effects: tuple[Effect, ...] = ()) -> Survived:
    asked = Asked("key", "acting.act", 0, 0, "key", list(told))
    return Survived([asked], {row.execution_id: row for row in rows}, {"a": "1", "b": "2"}, effects)


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
        (found(row(STATE_SUCCEEDED), told=(OK, Told("OK", "", "b", "", STATE_SUCCEEDED, "2"))), "several answers"),
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
        assert counter.effects() == [Effect(1, "one", "k", None), Effect(2, "one", "k", None)]
