import asyncio
from dataclasses import replace

import pytest

from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.model import State
from toolwright_server.identity import Caller

from .conftest import MakeStore
from .executions import OWNER, added, refused, row, settled

pytestmark = pytest.mark.asyncio

DAY = 86_400.0


async def test_the_first_of_a_request_id_holds_it_and_is_answered_to_the_others(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", request_id="r", digest=b"one")
    found = await kept.store.add(row("b", request_id="r", digest=b"two"))
    assert found is not None
    assert (found.execution_id, found.digest) == ("a", b"one")
    assert await kept.store.get(OWNER, "b") is None
    first = await kept.store.find(OWNER, "r")
    assert first is not None
    assert first.execution_id == "a"


async def test_the_holder_is_answered_with_its_outcome(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a", request_id="r")
    await settled(kept, execution, result=b'"done"')
    found = await kept.store.add(row("b", request_id="r"))
    assert found is not None
    assert (found.state, found.result) == (State.SUCCEEDED, b'"done"')


async def test_executions_without_a_request_id_hold_nothing(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", "b")
    assert await kept.store.get(OWNER, "b") is not None


@pytest.mark.parametrize(
    "other",
    [replace(OWNER, tenant="other"), replace(OWNER, principal="key-2")],
    ids=["tenant", "principal"],
)
async def test_each_tenant_and_each_credential_has_its_own_request_ids(make_store: MakeStore, other: Caller) -> None:
    kept = make_store()
    await added(kept, "a", request_id="r")
    assert await kept.store.add(row("b", request_id="r", caller=other)) is None


async def test_the_users_of_one_credential_share_its_request_ids(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", request_id="r")
    found = await kept.store.add(row("b", request_id="r", caller=OWNER.acting_for("bob")))
    assert found is not None
    assert found.execution_id == "a"


async def test_a_refusal_gives_the_request_id_back(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a", request_id="r")
    await refused(kept, execution)
    assert await kept.store.add(row("b", request_id="r")) is None
    found = await kept.store.add(row("c", request_id="r"))
    assert found is not None
    assert found.execution_id == "b"


async def test_what_failed_before_it_was_started_gives_the_request_id_back(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a", request_id="r")
    execution.move(State.TIMED_OUT)
    execution.failure = Failure(Reason.TOOL_TIMEOUT, "no worker came", metadata={"outcome": "not_started"})
    execution.end_time = 1_002.0
    await kept.store.settle(execution)
    assert await kept.store.add(row("b", request_id="r")) is None


@pytest.mark.parametrize(
    ("effect", "given_back"), [(Effect.READ_ONLY, True), (Effect.IDEMPOTENT, True), (Effect.SIDE_EFFECT, False)]
)
async def test_what_was_cancelled_gives_the_request_id_back_where_repeating_does_no_harm(
    make_store: MakeStore, effect: Effect, given_back: bool
) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a", request_id="r", effect=effect)
    execution.move(State.RUNNING)
    execution.move(State.CANCELLED)
    execution.failure = Failure(Reason.CANCELLED, "the caller left", metadata={"outcome": "unknown"})
    execution.end_time = 1_002.0
    await kept.store.settle(execution)
    assert (await kept.store.add(row("b", request_id="r")) is None) is given_back


async def test_an_unknown_outcome_holds_the_request_id(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a", request_id="r")
    execution.move(State.RUNNING)
    execution.move(State.OUTCOME_UNKNOWN)
    execution.failure = Failure(Reason.OUTCOME_UNKNOWN, "lost", metadata={"outcome": "unknown"})
    execution.end_time = 1_002.0
    await kept.store.settle(execution)
    found = await kept.store.add(row("b", request_id="r"))
    assert found is not None
    assert found.state is State.OUTCOME_UNKNOWN


async def test_what_was_given_back_late_does_not_take_it_from_the_next(make_store: MakeStore) -> None:
    kept = make_store()
    (first,) = await added(kept, "a", request_id="r")
    await refused(kept, first)
    await added(kept, "b", request_id="r")
    await kept.store.settle(first)
    found = await kept.store.add(row("c", request_id="r"))
    assert found is not None
    assert found.execution_id == "b"


async def test_after_a_day_a_request_id_may_be_used_again(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a", request_id="r", create_time=kept.now)
    await settled(kept, execution, at=kept.now)
    kept.now += DAY - 1
    assert await kept.store.add(row("b", request_id="r", create_time=kept.now)) is not None
    kept.now += 1
    assert await kept.store.add(row("c", request_id="r", create_time=kept.now)) is None
    found = await kept.store.find(OWNER, "r")
    assert found is not None
    assert found.execution_id == "c"


async def test_of_many_at_once_exactly_one_holds_the_request_id(make_store: MakeStore) -> None:
    kept = make_store()
    rows = [row(f"{number:03}", request_id="r") for number in range(300)]
    holders = await asyncio.gather(*(kept.store.add(each) for each in rows))
    (winner,) = [each.execution_id for each, found in zip(rows, holders, strict=True) if found is None]
    assert {found.execution_id for found in holders if found is not None} == {winner}
    assert len([each for each in rows if await kept.store.get(OWNER, each.execution_id) is not None]) == 1
