"""Answers in the place of a tool that could not: when, by whom, at what price, and never in silence."""

import asyncio
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field, SecretStr

from toolwright_server.catalog.context import ToolError
from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.model import CachePolicy, DeclarationError, Effect, FallbackPolicy, RetryPolicy, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import Lost, NotSent, ToolFailed, Work
from toolwright_server.execution.model import CacheMode, Execution, Source, State
from toolwright_server.identity import ANONYMOUS
from toolwright_server.stores.sql import rows

from .house import House

GONE = Failure(Reason.UPSTREAM_UNAVAILABLE, "the upstream is gone")
READ, IDEMPOTENT, SIDE = Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT
ONCE = RetryPolicy(attempts=1)
FIXED = FallbackPolicy(value="7")
pytestmark = pytest.mark.asyncio


def failing(house: House, error: Exception, effect: Effect = READ, fallback: FallbackPolicy = FIXED) -> None:
    async def script(work: Work) -> bytes:
        work.reporter.started()
        raise error

    house.remote(script, effect, fallback=fallback, retry=ONCE)


def told(execution: Execution) -> tuple[State, Source, bytes | None, str | None]:
    replaced = execution.fallback.failure.reason.name if execution.fallback is not None else None
    return execution.state, execution.source, execution.result, replaced


REPLACED: list[tuple[NotSent | ToolFailed | Lost, set[Effect]]] = [
    (NotSent(GONE), {READ, IDEMPOTENT, SIDE}),
    (NotSent(Failure(Reason.INVALID_ARGUMENTS, "not so")), set()),
    (ToolFailed(Failure(Reason.TOOL_FAILED, "try again", retryable=True)), {READ, IDEMPOTENT}),
    (ToolFailed(Failure(Reason.TOOL_FAILED, "there is no such contact")), set()),
    (ToolFailed(Failure(Reason.OUTPUT_INVALID, "no answer")), {READ, IDEMPOTENT}),
    (Lost(Failure(Reason.TOOL_CRASHED, "it died")), {READ}),
]


@pytest.mark.parametrize(("error", "effects"), REPLACED)
async def test_a_value_takes_the_place_of_failures_of_what_the_tool_depends_on(
    house: House, error: NotSent | ToolFailed | Lost, effects: set[Effect], effect: Effect
) -> None:
    failing(house, error, effect)
    execution = await house.run("remote")
    if effect in effects:
        assert told(execution) == (State.SUCCEEDED, Source.FALLBACK, b"7", error.failure.reason.name)
        assert execution.failure is None
    else:
        assert execution.fallback is None
        assert execution.failure is not None
        assert execution.state is not State.SUCCEEDED


@pytest.fixture(params=list(Effect))
def effect(request: pytest.FixtureRequest) -> Effect:
    return request.param


@pytest.mark.parametrize(
    ("automatic", "asked", "expected"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
async def test_the_call_may_ask_for_it_and_forbid_it(
    house: House, automatic: bool, asked: bool | None, expected: bool
) -> None:
    failing(house, NotSent(GONE), fallback=FallbackPolicy(value="7", automatic=automatic))
    execution = await house.run("remote", allow_fallback=asked)
    assert (execution.source is Source.FALLBACK) is expected


async def test_another_tool_is_called_as_a_step_with_the_same_arguments(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spare(subject: str) -> str:
        return f"spare {subject}"

    async def main(subject: str) -> str:
        raise ToolError("the upstream is gone", retryable=True)

    house.tool(spare)
    house.tool(main, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE)
    added: list[Execution] = []
    add = house.store.add

    async def watched(execution: Execution, *, awaited: bool = True) -> Execution | None:
        added.append(execution)
        return await add(execution, awaited=awaited)

    monkeypatch.setattr(house.store, "add", watched)
    execution = await house.run("main", {"subject": "x"})
    assert told(execution) == (State.SUCCEEDED, Source.FALLBACK, b'"spare x"', "TOOL_FAILED")
    assert execution.fallback is not None
    assert execution.fallback.tool == "tests.spare"
    (child,) = [row for row in added if row.parent_execution_id == execution.execution_id]
    assert (child.tool, child.state, child.task_id) == ("tests.spare", State.SUCCEEDED, execution.task_id)


@pytest.mark.parametrize("effect", [IDEMPOTENT, SIDE])
async def test_what_is_called_instead_is_in_the_record_before_it_does_anything(
    house: House, monkeypatch: pytest.MonkeyPatch, effect: Effect
) -> None:
    """Or nobody could tell afterwards, of a server that died, whether it was called."""
    waited: dict[str, bool] = {}
    add = house.store.add

    async def spare() -> int:
        return 1

    async def main() -> int:
        raise ToolError("the upstream is gone", retryable=True, nothing_sent=True)

    async def watched(execution: Execution, *, awaited: bool = True) -> Execution | None:
        waited[execution.tool] = awaited
        return await add(execution, awaited=awaited)

    house.tool(spare, effect)
    house.tool(main, SIDE, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE)
    monkeypatch.setattr(house.store, "add", watched)
    assert (await house.run("main")).state is State.SUCCEEDED
    assert waited == {"tests.main": True, "tests.spare": True}


async def test_a_chain_ends_at_a_tool_that_was_tried_and_the_first_failure_stays(house: House) -> None:
    calls: list[str] = []

    async def one() -> int:
        calls.append("one")
        raise ToolError("one is gone", retryable=True)

    async def two() -> int:
        calls.append("two")
        raise ToolError("two is gone", retryable=True)

    house.tool(one, fallback=FallbackPolicy(tool="tests.two"), retry=ONCE)
    house.tool(two, fallback=FallbackPolicy(tool="tests.one"), retry=ONCE)
    execution = await house.run("one")
    assert calls == ["one", "two"]
    assert execution.state is State.FAILED
    assert execution.failure is not None
    assert execution.failure.message == "one is gone"
    assert execution.failure.metadata["fallback"] == "tests.two failed as well: TOOL_FAILED"


async def test_what_is_no_answer_of_the_tool_is_not_given(house: House) -> None:
    async def spare() -> str:
        return "text"

    async def main() -> int:
        raise ToolError("gone", retryable=True)

    house.tool(spare)
    house.tool(main, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE)
    execution = await house.run("main")
    assert execution.failure is not None
    assert "is no answer of tests.main" in execution.failure.metadata["fallback"]


async def test_a_value_takes_the_place_of_a_read_only_tool_that_takes_too_long(house: House) -> None:
    async def slow() -> int:
        await asyncio.sleep(60)
        return 1

    house.tool(slow, fallback=FIXED, timeout_seconds=0.05)
    assert told(await house.run("slow")) == (State.SUCCEEDED, Source.FALLBACK, b"7", "TOOL_TIMEOUT")


async def test_what_answers_in_its_place_has_a_price_of_its_own(house: House) -> None:
    async def spare() -> int:
        return 1

    async def main() -> int:
        raise ToolError("gone", retryable=True)

    house.tool(spare, price=2)
    house.tool(main, price=5, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE)
    execution = await house.run("main")
    assert (execution.state, execution.hold_micros, execution.cost_micros) == (State.SUCCEEDED, 5_000_000, 0)


@pytest.mark.parametrize(
    ("facts", "calls", "why"),
    [
        ({}, 2, None),
        ({"max_attempts": 1}, 1, "tests.spare failed as well: TOOL_FAILED"),
        ({"max_cost_micros": 1_999_999}, 0, "tests.spare was refused: BUDGET_EXCEEDED"),
        ({"max_cost_micros": 2_000_000}, 2, None),
    ],
)
async def test_what_the_call_allows_holds_for_what_answers_in_its_place(
    house: House, facts: dict[str, Any], calls: int, why: str | None
) -> None:
    made: list[int] = []

    async def spare() -> int:
        made.append(1)
        if len(made) == 1:
            raise ToolError("try again", retryable=True)
        return 1

    async def main() -> int:
        raise ToolError("gone", retryable=True)

    house.tool(spare, price=2)
    house.tool(main, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE)
    execution = await house.run("main", **facts)
    failure = execution.failure
    assert (len(made), None if failure is None else failure.metadata["fallback"]) == (calls, why)


async def test_who_wants_no_kept_answer_gets_none_in_the_tools_place_either(house: House) -> None:
    made: list[int] = []

    async def spare() -> int:
        made.append(1)
        return len(made)

    async def main() -> int:
        raise ToolError("gone", retryable=True)

    house.tool(spare, cache=CachePolicy(60))
    house.tool(main, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE)
    modes = (CacheMode.DEFAULT, CacheMode.DEFAULT, CacheMode.BYPASS, CacheMode.REFRESH, CacheMode.DEFAULT)
    assert [(await house.run("main", cache_mode=mode)).result for mode in modes] == [b"1", b"1", b"2", b"3", b"3"]


async def test_a_tool_in_its_place_that_the_caller_may_not_call_is_not_named(house: House) -> None:
    async def spare() -> int:
        return 1

    async def main() -> int:
        raise ToolError("gone", retryable=True)

    house.tool(spare)
    house.tool(main, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE)
    execution = await house.run("main", caller=replace(ANONYMOUS, scopes=("tests.main",)))
    assert execution.failure is not None
    assert execution.failure.metadata["fallback"] == "another tool was refused: FORBIDDEN"


async def test_every_attempt_and_the_tool_in_its_place_are_given_what_was_asked(house: House) -> None:
    seen: list[str] = []

    async def spare(value: dict[str, Any]) -> Any:
        return value

    async def main(value: dict[str, Any]) -> Any:
        seen.append(str(value))
        value["a"].append(2)
        raise ToolError("gone", retryable=True)

    house.tool(spare)
    house.tool(main, fallback=FallbackPolicy(tool="tests.spare"), retry=RetryPolicy(attempts=3))
    execution = await house.run("main", {"value": {"a": [1]}})
    assert seen == ["{'a': [1]}"] * 3
    assert execution.result == b'{"a":[1]}'


async def test_it_is_in_the_record(house: House) -> None:
    failing(house, NotSent(GONE))
    execution = await house.run("remote")
    again = rows.execution(rows.values(execution))
    assert (again.source, again.fallback) == (execution.source, execution.fallback)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (FallbackPolicy(), "give one of them"),
        (FallbackPolicy(value="1", tool="tests.other"), "give one of them"),
        (FallbackPolicy(tool="tests.main"), "is the tool itself"),
        (FallbackPolicy(value="{"), "is no JSON text"),
        (FallbackPolicy(value='"text"'), "is no answer of the tool"),
    ],
)
async def test_a_policy_that_cannot_be_right_is_refused(house: House, policy: FallbackPolicy, words: str) -> None:
    async def main() -> int:
        return 1

    with pytest.raises(DeclarationError, match=words):
        house.tool(main, fallback=policy)


async def test_a_fallback_by_nobody_is_refused() -> None:
    @tool("tests.main", effect=READ, fallback=FallbackPolicy(tool="tests.nobody"))
    async def main() -> int:
        return 1

    declared = declared_tool(main)
    assert declared is not None
    with pytest.raises(DeclarationError, match=r"tests.nobody' is not declared"):
        Catalog([declared])


@pytest.mark.parametrize(
    ("error", "expected", "outcome"),
    [
        (NotSent(GONE), State.FAILED, "not_started"),
        (ToolFailed(Failure(Reason.TOOL_FAILED, "no")), State.FAILED, None),
        (Lost(Failure(Reason.TOOL_CRASHED, "it died")), State.OUTCOME_UNKNOWN, "unknown"),
    ],
)
async def test_a_call_is_not_started_only_while_the_tool_in_its_place_has_done_nothing_either(
    house: House, error: NotSent | ToolFailed | Lost, expected: State, outcome: str | None
) -> None:
    async def main() -> int:
        raise ToolError("gone", retryable=True, nothing_sent=True)

    failing(house, error, SIDE, FallbackPolicy(tool="tests.main"))
    house.tool(main, SIDE, fallback=FallbackPolicy(tool="tests.remote"), retry=ONCE)
    execution = await house.run("main")
    assert execution.failure is not None
    assert (execution.state, execution.failure.metadata.get("outcome")) == (expected, outcome)


async def test_a_tool_in_its_place_that_is_cut_off_leaves_the_outcome_unknown(house: House) -> None:
    async def spare() -> int:
        await asyncio.sleep(60)
        return 1

    async def main() -> int:
        raise ToolError("gone", retryable=True, nothing_sent=True)

    house.tool(spare, SIDE)
    house.tool(main, SIDE, fallback=FallbackPolicy(tool="tests.spare"), retry=ONCE, timeout_seconds=0.1)
    execution = await house.run("main")
    assert execution.failure is not None
    assert (execution.state, execution.failure.metadata["outcome"]) == (State.OUTCOME_UNKNOWN, "unknown")


Secret = Annotated[str, Field(json_schema_extra={"x-sensitive": True})]


@pytest.mark.parametrize("how", ["arguments marked", "arguments", "result marked", "result"])
@pytest.mark.parametrize("there", [False, True], ids=["here alone", "there too"])
async def test_what_one_tool_does_not_keep_is_not_kept_by_way_of_another(how: str, there: bool) -> None:
    def made(name: str, hides: bool, **more: Any) -> Tool:
        async def plain(word: str) -> str:
            return word

        async def given(word: SecretStr) -> str:
            return word.get_secret_value()

        async def giving(word: str) -> Secret:
            return word

        function = {"arguments marked": given, "result marked": giving}.get(how, plain) if hides else plain
        if hides and " " not in how:
            more |= {"keep_arguments": how != "arguments", "keep_result": how != "result"}
        found = declared_tool(tool(name, effect=READ, **more)(function))
        assert found is not None
        return found

    by_arguments = how.startswith("arguments")
    main = made("tests.main", by_arguments or there, fallback=FallbackPolicy(tool="tests.spare"))
    spare = made("tests.spare", not by_arguments or there)
    if there:
        assert Catalog([main, spare])
    else:
        with pytest.raises(DeclarationError, match="would keep"):
            Catalog([main, spare])


async def test_a_tool_that_does_more_takes_nobodys_place() -> None:
    @tool("tests.spare", effect=SIDE)
    async def spare() -> int:
        return 1

    @tool("tests.main", effect=READ, fallback=FallbackPolicy(tool="tests.spare"))
    async def main() -> int:
        return 1

    with pytest.raises(DeclarationError, match="must do no more, and is SIDE_EFFECT"):
        Catalog([found for each in (spare, main) if (found := declared_tool(each)) is not None])
