import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.events import Wrote
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.store import QUERY_FIELDS, ExecutionQuery
from toolwright_server.identity import Caller

from .conftest import Kept, MakeStore

OWNER = Caller("acme", "key-1", "ann", acts_for=frozenset({"bob"}))
pytestmark = pytest.mark.asyncio


def row(execution_id: str, **facts: Any) -> Execution:
    """A new execution; `facts` are its other fields."""
    defaults: dict[str, Any] = {
        "caller": OWNER,
        "tool": "tests.work",
        "tool_version": "1",
        "digest": b"\x00\xff",
        "server_id": "server",
        "epoch": 1,
        "trace_id": "0" * 32,
        "create_time": 1_000.0,
        "deadline_time": 1_030.0,
        "deadline_source": DeadlineSource.SERVER,
        "as_json": True,
        "task_id": execution_id,
        "parent_execution_id": "",
        "request_id": "",
        "session_id": "",
        "agent_id": "",
        "labels": {},
        "arguments_bytes": 2,
    }
    return Execution(execution_id=execution_id, **{**defaults, **facts})


async def added(kept: Kept, *execution_ids: str, **facts: Any) -> list[Execution]:
    rows = [row(execution_id, **facts) for execution_id in execution_ids]
    for each in rows:
        await kept.store.add(each)
    return rows


async def settled(kept: Kept, execution: Execution, *, at: float = 1_001.0, result: bytes = b"null") -> None:
    execution.move(State.RUNNING)
    execution.move(State.SUCCEEDED)
    execution.result = result
    execution.end_time = at
    execution.stopped = Stopped.YES
    await kept.store.settle(execution)


async def listed(kept: Kept, *, caller: Caller = OWNER, limit: int = 100, **query: Any) -> list[str]:
    found = await kept.store.list(caller, ExecutionQuery(limit, **query))
    return [execution.execution_id for execution in found]


async def there(kept: Kept, execution_ids: Sequence[str]) -> list[str]:
    return [each for each in execution_ids if await kept.store.get(OWNER, each) is not None]


async def test_what_was_added_is_there_before_it_has_ended(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", labels={"team": "x"}, digest=b"d")
    found = await kept.store.get(OWNER, "a")
    assert found is not None
    assert (found.state, found.labels, found.digest, found.caller) == (State.QUEUED, {"team": "x"}, b"d", OWNER)


async def test_what_was_settled_is_there_with_its_outcome(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a")
    await settled(kept, execution, result=b'{"n":18446744073709551615}')
    found = await kept.store.get(OWNER, "a")
    assert found is not None
    assert (found.state, found.result) == (State.SUCCEEDED, b'{"n":18446744073709551615}')
    assert (found.end_time, found.stopped) == (1_001.0, Stopped.YES)


async def test_what_was_never_added_is_nowhere(make_store: MakeStore) -> None:
    kept = make_store()
    assert await kept.store.get(OWNER, "a") is None
    assert await kept.store.find(OWNER, "a") is None
    assert await kept.store.find(OWNER, "") is None
    assert await listed(kept) == []


async def test_whether_the_work_was_stopped_can_be_corrected_afterwards(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a")
    await settled(kept, execution)
    await kept.store.correct("a", Stopped.NO)
    await kept.store.correct("unknown", Stopped.NO)
    found = await kept.store.get(OWNER, "a")
    assert found is not None
    assert found.stopped is Stopped.NO


@pytest.mark.parametrize(
    "stranger", [Caller("other", "key-1", "ann"), Caller("acme", "key-1", "eve"), Caller("", "", "")], ids=repr
)
async def test_nobody_else_sees_an_execution(make_store: MakeStore, stranger: Caller) -> None:
    kept = make_store()
    await added(kept, "a", request_id="r")
    assert await kept.store.get(stranger, "a") is None
    assert await kept.store.find(stranger, "r") is None
    assert await listed(kept, caller=stranger) == []


async def test_the_same_credential_sees_what_it_did_for_other_users(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", request_id="r")
    other = OWNER.acting_for("bob")
    assert await kept.store.get(other, "a") is not None
    assert await kept.store.find(other, "r") is not None
    assert await listed(kept, caller=other) == ["a"]


async def test_a_request_id_finds_the_newest_of_its_owner(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", "b", request_id="r")
    await added(kept, "c", request_id="r", caller=Caller("acme", "key-2", "ann"))
    found = await kept.store.find(OWNER, "r")
    assert found is not None
    assert found.execution_id == "b"


async def test_evicting_an_older_one_leaves_the_newest_of_a_request_id(make_store: MakeStore) -> None:
    kept = make_store(count=1)
    first, second = await added(kept, "a", "b", request_id="r")
    await settled(kept, first)
    await settled(kept, second)
    found = await kept.store.find(OWNER, "r")
    assert found is not None
    assert found.execution_id == "b"


async def test_an_evicted_request_id_finds_nothing(make_store: MakeStore) -> None:
    kept = make_store(count=0)
    (execution,) = await added(kept, "a", request_id="r")
    await settled(kept, execution)
    assert await kept.store.find(OWNER, "r") is None


async def test_the_list_begins_with_the_newest(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", "b", "c", "d")
    assert await listed(kept) == ["d", "c", "b", "a"]
    assert await listed(kept, limit=2) == ["d", "c"]


async def test_the_pages_of_a_list_have_no_holes_also_when_new_ones_come_and_old_ones_go(
    make_store: MakeStore,
) -> None:
    kept = make_store(count=5)
    rows = await added(kept, "a", "b", "c", "d", "e")
    assert await listed(kept, limit=2) == ["e", "d"]
    for each in rows[3], rows[0]:
        await settled(kept, each)
    await added(kept, "f")
    assert await listed(kept, limit=2, before="d") == ["c", "b"]
    assert await listed(kept, limit=2, before="b") == ["a"]
    assert await listed(kept, limit=2, before="a") == []


async def test_a_page_goes_on_behind_an_entry_that_was_evicted(make_store: MakeStore) -> None:
    kept = make_store(count=0)
    rows = await added(kept, "a", "b", "c")
    await settled(kept, rows[1])
    assert await listed(kept, before="b") == ["a"]


FACTS: dict[str, dict[str, Any]] = {
    "state": {"state": State.RUNNING},
    "tool": {"tool": "tests.other"},
    "user_id": {"caller": OWNER.acting_for("bob")},
    "agent_id": {"agent_id": "agent"},
    "session_id": {"session_id": "session"},
    "task_id": {"task_id": "task"},
    "parent_execution_id": {"parent_execution_id": "parent"},
    "request_id": {"request_id": "request"},
}
VALUES = {
    "state": "RUNNING",
    "tool": "tests.other",
    "user_id": "bob",
    "agent_id": "agent",
    "session_id": "session",
    "task_id": "task",
    "parent_execution_id": "parent",
    "request_id": "request",
}


@pytest.mark.parametrize("field", QUERY_FIELDS)
async def test_the_list_is_filtered_by_every_field(make_store: MakeStore, field: str) -> None:
    kept = make_store()
    await added(kept, "a", "c")
    await added(kept, "b", "d", **FACTS[field])
    assert await listed(kept, equal={field: VALUES[field]}) == ["d", "b"]
    assert await listed(kept, equal={field: "no such value"}) == []
    assert await listed(kept, equal={field: VALUES[field]}, limit=1, before="d") == ["b"]


async def test_filters_hold_together(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", tool="t", agent_id="x")
    await added(kept, "b", tool="t")
    await added(kept, "c", agent_id="x")
    assert await listed(kept, equal={"tool": "t", "agent_id": "x"}) == ["a"]


async def test_the_list_is_filtered_by_labels(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", labels={"team": "x", "run": "1"})
    await added(kept, "b", labels={"team": "x"})
    await added(kept, "c")
    assert await listed(kept, labels={"team": "x"}) == ["b", "a"]
    assert await listed(kept, labels={"team": "x", "run": "1"}) == ["a"]
    assert await listed(kept, labels={"team": ""}) == []


async def test_beyond_the_count_those_that_ended_first_go_first(make_store: MakeStore) -> None:
    kept = make_store(count=2)
    a, b, c, d = await added(kept, "a", "b", "c", "d")
    for each in (c, a, d, b):
        await settled(kept, each)
    assert await listed(kept) == ["d", "b"]


async def test_beyond_the_bytes_the_oldest_go(make_store: MakeStore) -> None:
    kept = make_store(size_bytes=350_000)
    for each in await added(kept, "a", "b", "c", "d"):
        await settled(kept, each, result=b'"' + b"x" * 100_000 + b'"')
    assert await listed(kept) == ["d", "c", "b"]


async def test_events_count_for_the_bytes_and_go_with_their_execution(make_store: MakeStore) -> None:
    kept = make_store(size_bytes=350_000)
    for each in await added(kept, "a", "b", "c", "d"):
        kept.logs.open(each.execution_id).append(0.0, Wrote("output", "x" * 100_000))
        await settled(kept, each)
    assert await listed(kept) == ["d", "c", "b"]
    assert kept.logs.find("a") is None
    assert kept.logs.find("b") is not None


async def test_what_alone_is_larger_than_all_that_may_be_kept_goes_at_once(make_store: MakeStore) -> None:
    kept = make_store(size_bytes=50_000)
    (execution,) = await added(kept, "a")
    await settled(kept, execution, result=b'"' + b"x" * 100_000 + b'"')
    assert await listed(kept) == []


async def test_what_ended_too_long_ago_goes_with_the_next_that_ends(make_store: MakeStore) -> None:
    kept = make_store(age_seconds=60)
    a, b, c = await added(kept, "a", "b", "c")
    await settled(kept, a, at=2_000.0)
    kept.now = 2_050.0
    await settled(kept, b, at=2_050.0)
    assert await there(kept, "abc") == ["a", "b", "c"]
    kept.now = 2_061.0
    await settled(kept, c, at=2_061.0)
    assert await there(kept, "abc") == ["b", "c"]


async def test_what_still_runs_is_never_evicted(make_store: MakeStore) -> None:
    kept = make_store(count=1, size_bytes=10_000, age_seconds=1)
    await added(kept, *"abc", create_time=0.0)
    kept.now = 1e9
    for each in await added(kept, "d", "e", "f"):
        await settled(kept, each, at=kept.now)
    assert await listed(kept) == ["f", "c", "b", "a"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5_000)), max_size=40), st.integers(0, 4))
async def test_whatever_the_order_of_ends_the_last_ones_are_kept(
    make_store: MakeStore, ends: list[tuple[int, int]], count: int
) -> None:
    kept = make_store(count=count)
    ids = itertools.count()
    running: list[Execution] = []
    ended: list[str] = []
    for choice, size in ends:
        running += await added(kept, f"{next(ids):04}", f"{next(ids):04}")
        execution = running.pop(choice % len(running))
        await settled(kept, execution, result=b" " * size)
        ended.append(execution.execution_id)
    last = ended[-count:] if count else []
    assert sorted(await listed(kept)) == sorted([each.execution_id for each in running] + last)
