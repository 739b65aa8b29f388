import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
import pytest_asyncio
from pydantic import BaseModel, Field

from tests.unit.execution.corridor import row
from toolwright_server import Found, NotDone, StillUnknown, UnknownExecution
from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.look_up import LookedUp
from toolwright_server.catalog.model import Effect, FallbackPolicy, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.model import TERMINAL, Execution, State
from toolwright_server.execution.recovery.reconcile import Declared, Reconciler
from toolwright_server.execution.recovery.verdict import Verdict, entry
from toolwright_server.identity import Caller, Role
from toolwright_server.records.audit.model import Kind
from toolwright_server.stores.memory.leases import MemoryLeases
from toolwright_server.stores.memory.recovery import MemoryRecovery

pytestmark = pytest.mark.asyncio
PATIENCE = 5.0
OPERATOR = Caller("default", "ops-key", "olga", role=Role.OPERATOR)
Asked = Callable[[dict[str, Any] | None, UnknownExecution], LookedUp | Awaitable[LookedUp]]


class Paid(BaseModel):
    """What the tool returns."""

    receipt: int
    pin: Annotated[str, Field(json_schema_extra={"x-sensitive": True})] = "0000"


def paying(look_up: Asked | None, **options: Any) -> Tool:
    async def pay(amount: int) -> Paid:
        """Pays."""
        return Paid(receipt=amount)

    declared = declared_tool(tool("tests.pay", effect=Effect.SIDE_EFFECT, look_up=look_up, **options)(pay))
    assert declared is not None
    return declared


@dataclass
class Desk:
    """A reconciler, its rows and what was decided."""

    rows: dict[str, Execution]
    verdicts: list[Verdict]
    store: MemoryRecovery
    made: list[Reconciler]

    def reconciler(self, *tools: Tool) -> Reconciler:
        made = Reconciler(self.store, Catalog(tools), now=lambda: 2_000.0)
        self.made.append(made)
        return made

    def unknown(self, **facts: Any) -> Execution:
        failure = Failure(Reason.TOOL_TIMEOUT, "took too long", metadata={"outcome": "unknown"})
        defaults: dict[str, Any] = {
            "execution_id": "0190-x",
            "tool": "tests.pay",
            "state": State.OUTCOME_UNKNOWN,
            "failure": failure,
            "arguments": b'{"amount":7}',
            "request_id": "r",
            "end_time": 1_500.0,
        }
        made = row(**{**defaults, **facts})
        self.rows[made.execution_id] = made
        return made


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    rows: dict[str, Execution] = {}
    verdicts: list[Verdict] = []
    made = Desk(rows, verdicts, MemoryRecovery(rows, MemoryLeases(), verdicts.append), [])
    yield made
    for each in made.made:
        await each.close()


async def refusal(work: Awaitable[Any]) -> Failure:
    with pytest.raises(ToolwrightError) as refused:
        await asyncio.wait_for(work, PATIENCE)
    return refused.value.failure


async def test_what_the_look_up_found_is_the_result_and_its_secrets_are_not_kept(desk: Desk) -> None:
    asked: list[tuple[Any, str]] = []

    async def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
        asked.append((arguments, execution.execution_id))
        return Found({"receipt": 7, "pin": "1234"})

    desk.unknown()
    found = await desk.reconciler(paying(look_up)).look_up("0190-x")
    assert asked == [({"amount": 7}, "0190-x")]
    assert (found.state, found.result, found.failure) == (
        State.SUCCEEDED,
        b'{"receipt":7,"pin":"[redacted]"}',
        None,
    )
    (verdict,) = desk.verdicts
    assert not verdict.frees


async def test_what_was_not_done_has_failed_and_may_be_called_again(desk: Desk) -> None:
    desk.unknown()
    found = await desk.reconciler(paying(lambda _, __: NotDone())).look_up("0190-x", OPERATOR)
    assert found.state is State.FAILED
    assert found.failure is not None
    assert found.failure.reason is Reason.TOOL_TIMEOUT
    assert found.failure.metadata["outcome"] == "not_started"
    assert found.failure.may_retry()
    (verdict,) = desk.verdicts
    assert verdict.frees
    said = entry(verdict)
    assert (said.kind, said.principal, said.user) == (Kind.RECONCILIATION, "ops-key", "olga")
    assert said.facts["by"] == "look_up"
    assert said.facts["outcome"] == "not_started"


async def test_what_is_being_asked_is_not_asked_twice_and_may_be_asked_again(desk: Desk) -> None:
    go, asked = asyncio.Event(), list[str]()

    async def look_up(_: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
        asked.append(execution.execution_id)
        await go.wait()
        return StillUnknown()

    unknown = desk.unknown()
    reconciler = desk.reconciler(paying(look_up))
    for _ in range(3):
        reconciler.soon([unknown])
        await asyncio.sleep(0)
    go.set()
    await asyncio.wait_for(reconciler.done(), PATIENCE)
    assert asked == ["0190-x"]
    reconciler.soon([unknown])
    await asyncio.wait_for(reconciler.done(), PATIENCE)
    assert asked == ["0190-x"] * 2


async def test_a_dead_servers_call_that_was_not_done_counts_as_never_reached(desk: Desk) -> None:
    desk.unknown(failure=Failure(Reason.OUTCOME_UNKNOWN, "the server ended"))
    found = await desk.reconciler(paying(lambda _, __: NotDone())).look_up("0190-x")
    assert found.failure is not None
    assert found.failure.reason is Reason.UPSTREAM_UNAVAILABLE


def replaced() -> list[Tool]:
    """A tool whose look-up says that nothing was done, and the one that is called in its place."""

    async def bank(amount: int) -> Paid:
        return Paid(receipt=amount)

    declared = declared_tool(tool("tests.bank", effect=Effect.SIDE_EFFECT)(bank))
    assert declared is not None
    return [paying(lambda _, __: NotDone(), fallback=FallbackPolicy(tool="tests.bank")), declared]


DONE_ELSEWHERE = [
    (State.SUCCEEDED, "", False),
    (State.OUTCOME_UNKNOWN, "unknown", False),
    (State.FAILED, "", False),
    (State.RUNNING, "", False),
    (State.FAILED, "not_started", True),
    (State.REJECTED, "not_started", True),
]


@pytest.mark.parametrize("effect", [Effect.SIDE_EFFECT, Effect.IDEMPOTENT])
@pytest.mark.parametrize(("state", "outcome", "is_settled"), DONE_ELSEWHERE)
async def test_what_may_have_been_done_by_the_tool_in_its_place_is_not_given_back(
    desk: Desk, state: State, outcome: str, is_settled: bool, effect: Effect
) -> None:
    desk.unknown()
    failure = Failure(Reason.TOOL_FAILED, "no", metadata={"outcome": outcome}) if outcome else None
    facts: dict[str, Any] = {"tool": "tests.bank", "state": state, "failure": failure, "effect": effect}
    desk.unknown(execution_id="0190-y", parent_execution_id="0190-x", task_id="0190-x", **facts)
    found = await desk.reconciler(*replaced()).look_up("0190-x")
    assert (found.state is State.FAILED) is is_settled
    assert len(desk.verdicts) == is_settled


@pytest.mark.parametrize("facts", [{"tool": "tests.other"}, {"effect": Effect.READ_ONLY}])
async def test_steps_that_could_not_do_it_in_its_place_leave_the_look_up_to_decide(
    desk: Desk, facts: dict[str, Any]
) -> None:
    desk.unknown()
    step: dict[str, Any] = {"tool": "tests.bank", "effect": Effect.SIDE_EFFECT, "state": State.SUCCEEDED, **facts}
    desk.unknown(execution_id="0190-y", parent_execution_id="0190-x", task_id="0190-x", **step)
    assert (await desk.reconciler(*replaced()).look_up("0190-x")).state is State.FAILED


async def test_a_call_is_asked_about_again_once_the_tool_in_its_place_is_known_not_to_have_done_it(desk: Desk) -> None:
    whole, step = desk.unknown(), desk.unknown(execution_id="0190-y", parent_execution_id="0190-x", task_id="0190-x")
    step.tool, step.effect = "tests.bank", Effect.SIDE_EFFECT
    reconciler = desk.reconciler(*replaced())
    reconciler.soon([whole])
    await asyncio.wait_for(reconciler.done(), PATIENCE)
    assert whole.state is State.OUTCOME_UNKNOWN
    await reconciler.declare("0190-y", OPERATOR, Declared(succeeded=False))
    await asyncio.wait_for(reconciler.done(), PATIENCE)
    assert whole.state is State.FAILED


async def test_what_nobody_can_say_yet_stays_unknown(desk: Desk) -> None:
    desk.unknown()
    found = await desk.reconciler(paying(lambda _, __: StillUnknown())).look_up("0190-x")
    assert found.state is State.OUTCOME_UNKNOWN
    assert desk.verdicts == []


async def test_a_synchronous_look_up_does_not_block_the_loop(desk: Desk) -> None:
    go_on = threading.Event()
    threads: list[str] = []

    def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
        threads.append(threading.current_thread().name)
        assert go_on.wait(PATIENCE)
        return Found({"receipt": 7})

    desk.unknown()
    asked = asyncio.ensure_future(desk.reconciler(paying(look_up)).look_up("0190-x"))
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(lambda: None)
    go_on.set()
    assert (await asyncio.wait_for(asked, PATIENCE)).state is State.SUCCEEDED
    assert threads[0].startswith("look-up")


async def test_arguments_that_were_not_kept_are_not_invented(desk: Desk) -> None:
    seen: list[Any] = []

    def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
        seen.append(arguments)
        return StillUnknown()

    desk.unknown(arguments=None)
    await desk.reconciler(paying(look_up)).look_up("0190-x")
    assert seen == [None]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Found({"receipt": "seven"}), "breaks the schema"),
        (Found(object()), "no JSON form"),
        ("yes", "neither Found nor NotDone"),
    ],
)
async def test_an_answer_that_cannot_be_right_changes_nothing(desk: Desk, answer: Any, says: str) -> None:
    left = desk.unknown()
    failure = await refusal(desk.reconciler(paying(lambda _, __: answer)).look_up("0190-x"))
    assert failure.reason is Reason.UPSTREAM_UNAVAILABLE
    assert says in failure.message
    assert left.state is State.OUTCOME_UNKNOWN


async def test_a_look_up_that_breaks_changes_nothing_and_its_text_stays_here(desk: Desk) -> None:
    def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
        raise RuntimeError("the pin was 1234")

    left = desk.unknown()
    failure = await refusal(desk.reconciler(paying(look_up)).look_up("0190-x"))
    assert (failure.reason, left.state) == (Reason.UPSTREAM_UNAVAILABLE, State.OUTCOME_UNKNOWN)
    assert "RuntimeError" in failure.message
    assert "1234" not in failure.message


async def test_a_look_up_that_never_answers_is_given_up(desk: Desk) -> None:
    async def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
        await asyncio.get_running_loop().create_future()
        return StillUnknown()

    desk.unknown()
    failure = await refusal(desk.reconciler(paying(look_up, timeout_seconds=0.01)).look_up("0190-x"))
    assert "did not answer within 0.01 s" in failure.message


async def test_without_a_look_up_somebody_must_say_it(desk: Desk) -> None:
    desk.unknown()
    for reconciler in (desk.reconciler(paying(None)), desk.reconciler()):
        failure = await refusal(reconciler.look_up("0190-x"))
        assert failure.reason is Reason.INVALID_STATE


@pytest.mark.parametrize("state", sorted(TERMINAL - {State.OUTCOME_UNKNOWN}))
async def test_what_is_known_is_not_decided_again(desk: Desk, state: State) -> None:
    desk.unknown(state=state)
    reconciler = desk.reconciler(paying(lambda _, __: NotDone()))
    assert (await refusal(reconciler.look_up("0190-x"))).metadata == {"state": state.name}
    assert (
        await refusal(reconciler.declare("0190-x", OPERATOR, Declared(succeeded=True)))
    ).reason is Reason.INVALID_STATE


async def test_what_does_not_exist_or_runs_cannot_be_decided(desk: Desk) -> None:
    desk.unknown(execution_id="running", state=State.RUNNING)
    reconciler = desk.reconciler(paying(None))
    for execution_id in ("running", "nowhere"):
        failure = await refusal(reconciler.declare(execution_id, OPERATOR, Declared(succeeded=False)))
        assert failure.reason is Reason.RESOURCE_NOT_FOUND


async def test_an_operator_may_say_that_it_happened(desk: Desk) -> None:
    desk.unknown()
    result = b'{"receipt": 7, "pin": "1234"}'
    found = await desk.reconciler(paying(None)).declare(
        "0190-x", OPERATOR, Declared(succeeded=True, result=result, note="seen in the bank's list")
    )
    assert found.state is State.SUCCEEDED
    assert found.result is not None
    assert b"1234" not in found.result
    said = entry(desk.verdicts[0])
    assert (said.principal, said.facts["by"]) == ("ops-key", "operator")
    assert said.facts["note"] == "seen in the bank's list"
    assert said.facts["owner_user"] == "anonymous"


async def test_an_operator_may_say_that_it_did_not_happen(desk: Desk) -> None:
    desk.unknown()
    found = await desk.reconciler().declare("0190-x", OPERATOR, Declared(succeeded=False))
    assert found.state is State.FAILED
    assert desk.verdicts[0].frees


@pytest.mark.parametrize(("result", "known"), [(b"{", True), (b'{"receipt": "x"}', True), (b'{"receipt": 1}', False)])
async def test_a_result_that_cannot_be_right_is_refused(desk: Desk, result: bytes, known: bool) -> None:
    left = desk.unknown()
    reconciler = desk.reconciler(*([paying(None)] if known else []))
    failure = await refusal(reconciler.declare("0190-x", OPERATOR, Declared(succeeded=True, result=result)))
    assert failure.reason is Reason.INVALID_ARGUMENTS
    assert left.state is State.OUTCOME_UNKNOWN


async def test_of_a_look_up_and_a_verdict_at_once_the_first_counts(desk: Desk) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
        asked.set()
        await go_on.wait()
        return NotDone()

    desk.unknown()
    reconciler = desk.reconciler(paying(look_up))
    slow = asyncio.ensure_future(reconciler.look_up("0190-x"))
    await asyncio.wait_for(asked.wait(), PATIENCE)
    await reconciler.declare("0190-x", OPERATOR, Declared(succeeded=True))
    go_on.set()
    assert (await refusal(slow)).reason is Reason.INVALID_STATE
    assert len(desk.verdicts) == 1


async def test_after_recovery_those_with_a_look_up_are_asked_by_themselves(desk: Desk) -> None:
    known, other = desk.unknown(execution_id="known"), desk.unknown(execution_id="other", tool="tests.other")
    reconciler = desk.reconciler(paying(lambda _, __: Found({"receipt": 7})))
    # As recovery hands them on: without arguments, and as they were a moment ago.
    reconciler.soon([replace(known), replace(other)])
    await asyncio.wait_for(reconciler.done(), PATIENCE)
    assert (known.state, other.state) == (State.SUCCEEDED, State.OUTCOME_UNKNOWN)
    assert reconciler.settled == 1


async def test_a_thousand_that_are_asked_by_themselves_leave_the_store_to_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most = 0, 0
    ended = desk.store.ended

    async def counted(execution_ids: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return await ended(execution_ids)

    monkeypatch.setattr(desk.store, "ended", counted)
    left = [desk.unknown(execution_id=f"0190-{number}") for number in range(1_000)]
    reconciler = desk.reconciler(paying(lambda _, __: NotDone()))
    reconciler.soon([replace(each) for each in left])
    await asyncio.wait_for(reconciler.done(), 30)
    assert all(each.state is State.FAILED for each in left)
    assert most == 4
