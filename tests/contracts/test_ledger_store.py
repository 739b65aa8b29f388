"""Credits, as every store keeps them: held with an intent, charged or given back with an outcome, never overspent."""

import asyncio
from typing import Any

import pytest

from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.model import Execution, State
from toolwright_server.identity import Caller, Role
from toolwright_server.records.ledger.model import Balance, Grant, Moved
from toolwright_server.records.ledger.store import LedgerQuery

from .conftest import Kept, MakeStore
from .executions import OWNER, refused, row, settled

pytestmark = pytest.mark.asyncio

OPERATOR = Caller("acme", "key-9", "olga", Role.OPERATOR)


def priced(execution_id: str, micros: int = 100, **facts: Any) -> Execution:
    return row(execution_id, hold_micros=micros, **facts)


async def granted(kept: Kept, micros: int = 1_000, name: str = "g-1", expires: float | None = None) -> Moved:
    return await kept.ledger.grant(Grant("acme", name, micros, "olga", expires, "words"), OPERATOR)


async def spendable(kept: Kept) -> tuple[int, int]:
    """What may be spent, and what is held; after looking whether the books are right."""
    report = await kept.ledger.check(None)
    assert report.valid, report.problems
    found = await kept.ledger.balance("acme")
    return found.available_micros, found.held_micros


async def denial(kept: Kept, execution: Execution) -> Failure:
    with pytest.raises(ToolwrightError) as error:
        await kept.store.add(execution)
    assert await kept.store.get(OWNER, execution.execution_id) is None
    return error.value.failure


async def moves(kept: Kept, execution_id: str = "") -> list[tuple[str, str, int]]:
    """Kind, account and amount of the entries, oldest first."""
    found = await kept.ledger.list(LedgerQuery("acme", 1_000, execution_id))
    ordered = sorted(found, key=lambda entry: (entry.transaction, entry.amount_micros))
    return [(entry.kind, entry.account, entry.amount_micros) for entry in ordered]


async def unknown(kept: Kept, execution: Execution) -> None:
    execution.move(State.RUNNING)
    execution.move(State.OUTCOME_UNKNOWN)
    execution.failure = Failure(Reason.OUTCOME_UNKNOWN, "lost", metadata={"outcome": "unknown"})
    execution.end_time = 1_001.0
    await kept.store.settle(execution)


async def failed(kept: Kept, execution: Execution) -> None:
    execution.move(State.RUNNING)
    execution.move(State.FAILED)
    execution.failure = Failure(Reason.TOOL_FAILED, "no")
    execution.end_time = 1_001.0
    await kept.store.settle(execution)


async def test_before_its_first_grant_a_tenant_pays_for_nothing(make_store: MakeStore) -> None:
    kept = make_store()
    execution = priced("a")
    assert await kept.store.add(execution) is None
    assert await kept.ledger.balance("acme") == Balance()
    await settled(kept, execution)
    assert (execution.cost_micros, execution.balance_micros) == (100, None)
    assert await moves(kept) == []
    assert await spendable(kept) == (0, 0)


async def test_a_grant_turns_credits_on_and_is_made_once_for_each_request_id(make_store: MakeStore) -> None:
    kept = make_store()
    first = await granted(kept, 500)
    again = await granted(kept, 500)
    assert (first.repeated, again.repeated) == (False, True)
    assert first.entry is not None
    assert again.entry == first.entry
    assert (first.entry.transaction, first.entry.account, first.entry.balance_micros) == (1, "available", 500)
    assert await kept.ledger.balance("acme") == Balance(enabled=True, available_micros=500)
    assert (await granted(kept, 200, "g-2")).balance_micros == 700
    assert await moves(kept) == [
        ("grant", "issued", -500),
        ("grant", "available", 500),
        ("grant", "issued", -200),
        ("grant", "available", 200),
    ]
    assert await kept.ledger.balance("zenith") == Balance()


async def test_what_a_call_costs_is_held_with_its_intent_and_charged_with_its_success(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept)
    execution = priced("a")
    assert await kept.store.add(execution) is None
    assert await spendable(kept) == (900, 100)
    await settled(kept, execution)
    assert await spendable(kept) == (900, 0)
    assert (execution.cost_micros, execution.balance_micros) == (100, 900)
    found = await kept.store.get(OWNER, "a")
    assert found is not None
    assert (found.hold_micros, found.cost_micros) == (100, 100)
    assert await moves(kept, "a") == [
        ("hold", "available", -100),
        ("hold", "held", 100),
        ("charge", "held", -100),
        ("charge", "revenue", 100),
    ]


@pytest.mark.parametrize("end", [refused, failed], ids=["refused", "failed"])
async def test_what_did_not_succeed_is_given_back(make_store: MakeStore, end: Any) -> None:
    kept = make_store()
    await granted(kept)
    execution = priced("a")
    await kept.store.add(execution)
    await end(kept, execution)
    assert await spendable(kept) == (1_000, 0)
    assert (execution.cost_micros, execution.balance_micros) == (0, 1_000)


@pytest.mark.parametrize("end", [settled, failed], ids=["succeeded", "failed"])
async def test_what_the_tool_reported_is_charged_however_it_ended(make_store: MakeStore, end: Any) -> None:
    kept = make_store()
    await granted(kept)
    execution = priced("a", metered=True)
    await kept.store.add(execution)
    execution.reported_micros = 30
    await end(kept, execution)
    assert await spendable(kept) == (970, 0)
    assert execution.cost_micros == 30
    assert (await moves(kept, "a"))[2:] == [
        ("charge", "held", -30),
        ("charge", "revenue", 30),
        ("refund", "held", -70),
        ("refund", "available", 70),
    ]


async def test_an_unknown_outcome_stays_held(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept)
    execution = priced("a")
    await kept.store.add(execution)
    await unknown(kept, execution)
    assert await spendable(kept) == (900, 100)
    report = await kept.ledger.check("acme")
    assert (report.holds, report.unknown_holds, report.held_micros) == (1, 1, 100)


async def test_too_few_credits_refuse_a_call_and_keep_nothing_of_it(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept, 150)
    assert await kept.store.add(priced("a")) is None
    failure = await denial(kept, priced("b"))
    assert failure.reason is Reason.INSUFFICIENT_CREDITS
    assert not failure.may_retry()
    assert failure.metadata == {"subject": "acme", "available": "50", "price": "100", "outcome": "not_started"}
    assert await spendable(kept) == (50, 100)
    assert await kept.store.add(priced("c", 50)) is None


async def test_a_refused_call_gives_its_request_id_back(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept, 50)
    assert (await denial(kept, priced("a", request_id="r"))).reason is Reason.INSUFFICIENT_CREDITS
    await granted(kept, 50, "g-2")
    assert await kept.store.add(priced("b", request_id="r")) is None
    found = await kept.store.find(OWNER, "r")
    assert found is not None
    assert found.execution_id == "b"


async def test_the_same_answer_again_costs_nothing(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept, 100)
    execution = priced("a", request_id="r")
    assert await kept.store.add(execution) is None
    again = await kept.store.add(priced("b", request_id="r"))
    assert again is not None
    await settled(kept, execution)
    replayed = await kept.store.add(priced("c", request_id="r"))
    assert replayed is not None
    assert (replayed.execution_id, replayed.cost_micros) == ("a", 100)
    assert await spendable(kept) == (0, 0)


async def test_a_task_costs_no_more_than_its_limit_over_all_of_its_calls(make_store: MakeStore) -> None:
    kept = make_store()
    first = priced("a", 400, task_limit_micros=1_000)
    assert await kept.store.add(first) is None
    second = priced("b", 450, task_id="a", task_limit_micros=1_000)
    assert await kept.store.add(second) is None
    failure = await denial(kept, priced("c", 200, task_id="a", task_limit_micros=1_000))
    assert failure.reason is Reason.BUDGET_EXCEEDED
    assert failure.metadata == {
        "scope": "task",
        "subject": "a",
        "used": "850",
        "limit": "1000",
        "price": "200",
        "outcome": "not_started",
    }
    # What is given back may be spent again; another user's task of the same name is another task.
    await failed(kept, second)
    assert await kept.store.add(priced("d", 600, task_id="a", task_limit_micros=1_000)) is None
    other = priced("e", 1_000, task_id="a", task_limit_micros=1_000, caller=OWNER.acting_for("bob"))
    assert await kept.store.add(other) is None


async def test_a_task_near_to_its_limit_warns_once_at_each_threshold(make_store: MakeStore) -> None:
    kept = make_store()
    warned: list[tuple[int, int]] = []
    for number, micros in enumerate((700, 100, 100, 50, 50)):
        execution = priced(f"{number}", micros, task_id="t", task_limit_micros=1_000)
        assert await kept.store.add(execution) is None
        warned += [(warning.threshold_percent, warning.used) for warning in execution.warnings]
        await settled(kept, execution)
        found = await kept.store.get(OWNER, f"{number}")
        assert found is not None
        assert found.warnings == execution.warnings
    assert warned == [(80, 800), (95, 950)]


async def test_what_expires_is_spent_first_and_gone_when_its_time_has_come(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept, 100, "forever")
    await granted(kept, 100, "later", kept.now + 20)
    await granted(kept, 100, "soon", kept.now + 10)
    execution = priced("a", 150)
    await kept.store.add(execution)
    await failed(kept, execution)
    assert await spendable(kept) == (300, 0)
    execution = priced("b", 150)
    await kept.store.add(execution)
    await settled(kept, execution)
    kept.now += 10
    assert await spendable(kept) == (150, 0)
    kept.now += 10
    # Read before it was moved, and moved with the next thing that happens.
    assert await spendable(kept) == (100, 0)
    assert (await denial(kept, priced("c", 101))).metadata["available"] == "100"
    assert [move for move in await moves(kept) if move[0] == "expire"] == [
        ("expire", "available", -50),
        ("expire", "expired", 50),
    ]
    assert await spendable(kept) == (100, 0)


async def test_what_is_given_back_to_a_grant_that_has_expired_expires_with_it(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept, 100, "soon", kept.now + 10)
    execution = priced("a", 60)
    await kept.store.add(execution)
    kept.now += 10
    assert await spendable(kept) == (0, 60)
    await failed(kept, execution)
    assert await spendable(kept) == (0, 0)


async def test_a_grant_that_has_expired_already_is_refused_unless_it_was_made_before(make_store: MakeStore) -> None:
    kept = make_store()
    first = await granted(kept, 100, "g", kept.now + 10)
    kept.now += 10
    assert (await granted(kept, 100, "g", kept.now)).entry == first.entry
    with pytest.raises(ToolwrightError, match="must lie in the future"):
        await granted(kept, 100, "h", kept.now)


async def test_more_than_can_be_counted_is_not_granted(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept, 2**61, "g")
    await granted(kept, 2**61, "h")
    with pytest.raises(ToolwrightError) as error:
        await granted(kept, 1, "i")
    assert error.value.failure.reason is Reason.INVALID_ARGUMENTS
    assert await spendable(kept) == (2**62, 0)


async def test_a_second_settlement_charges_nothing(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept)
    execution = priced("a")
    await kept.store.add(execution)
    await settled(kept, execution)
    await kept.store.settle(execution)
    assert await spendable(kept) == (900, 0)


async def test_entries_are_listed_newest_first_page_by_page(make_store: MakeStore) -> None:
    kept = make_store()
    for number in range(5):
        await granted(kept, 1 + number, f"g-{number}")
    found = await kept.ledger.list(LedgerQuery("acme", 3))
    assert [(entry.transaction, entry.account) for entry in found] == [
        (5, "available"),
        (5, "issued"),
        (4, "available"),
    ]
    rest = await kept.ledger.list(LedgerQuery("acme", 100, before=(4, "available")))
    assert [(entry.transaction, entry.account) for entry in rest][:2] == [(4, "issued"), (3, "available")]
    assert len(rest) == 7
    assert (found[0].request_id, found[0].user, found[0].note, found[0].time) == ("g-4", "olga", "words", kept.now)
    assert await kept.ledger.list(LedgerQuery("zenith", 3)) == []


async def test_of_many_calls_at_once_exactly_those_are_let_in_that_can_be_paid(make_store: MakeStore) -> None:
    kept = make_store()
    await granted(kept, 50)
    executions = [priced(f"{number:03}", 1, request_id=f"r-{number}") for number in range(120)]
    results = await asyncio.gather(*(kept.store.add(each) for each in executions), return_exceptions=True)
    let_in = [each for each, result in zip(executions, results, strict=True) if result is None]
    assert len(let_in) == 50
    assert await spendable(kept) == (0, 50)
    await asyncio.gather(*(settled(kept, each) for each in let_in))
    assert await spendable(kept) == (0, 0)
    assert len([each for each in executions if await kept.store.get(OWNER, each.execution_id) is not None]) == 50
