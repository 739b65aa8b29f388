from typing import Any

import pytest

from toolwright_server.artifacts.model import Artifact
from toolwright_server.execution.model import Source, State, Stopped
from toolwright_server.identity import Caller

from .conftest import MakeStore
from .executions import OWNER, added, listed, refused, settled

pytestmark = pytest.mark.asyncio


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


@pytest.mark.parametrize("source", [Source.CACHE, Source.JOINED])
async def test_whose_answer_it_has_is_kept(make_store: MakeStore, source: Source) -> None:
    kept = make_store()
    [execution] = await added(kept, "1")
    execution.source, execution.source_execution_id = source, "0190-other"
    execution.cached_time = 999.25 if source is Source.CACHE else None
    execution.move(State.SUCCEEDED)
    execution.result, execution.end_time = b"1", 1_001.0
    await kept.store.settle(execution)
    found = await kept.store.get(OWNER, "1")
    assert found is not None
    assert (found.source, found.source_execution_id, found.cached_time, found.start_time) == (
        source,
        "0190-other",
        execution.cached_time,
        None,
    )


async def test_its_artifacts_are_kept_in_the_same_commit(make_store: MakeStore) -> None:
    kept = make_store()
    (execution,) = await added(kept, "a")
    execution.artifacts = (
        Artifact(1, "größe.csv", "text/csv", 2**40, "0" * 64, "a,b\n", 2_000.0),
        Artifact(3, "result.json", "application/json", 0, "1" * 64, "", None, is_value=True),
    )
    await settled(kept, execution)
    found = await kept.store.get(OWNER, "a")
    assert found is not None
    assert found.artifacts == execution.artifacts


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
    (first,) = await added(kept, "a", request_id="r")
    await refused(kept, first)
    await added(kept, "b", request_id="r")
    await added(kept, "c", request_id="r", caller=Caller("acme", "key-2", "ann"))
    found = await kept.store.find(OWNER, "r")
    assert found is not None
    assert found.execution_id == "b"


async def test_the_list_begins_with_the_newest(make_store: MakeStore) -> None:
    kept = make_store()
    await added(kept, "a", "b", "c", "d")
    assert await listed(kept) == ["d", "c", "b", "a"]
    assert await listed(kept, limit=2) == ["d", "c"]


async def test_the_pages_of_a_list_have_no_holes_also_when_new_ones_come_and_old_ones_end(
    make_store: MakeStore,
) -> None:
    kept = make_store()
    rows = await added(kept, "a", "b", "c", "d", "e")
    assert await listed(kept, limit=2) == ["e", "d"]
    for each in rows[3], rows[0]:
        await settled(kept, each)
    await added(kept, "f")
    assert await listed(kept, limit=2, before="d") == ["c", "b"]
    assert await listed(kept, limit=2, before="b") == ["a"]
    assert await listed(kept, limit=2, before="a") == []


FACTS: dict[str, dict[str, Any]] = {
    "state": {"state": State.RUNNING},
    "tool": {"tool": "tests.other"},
    "category": {"category": "other"},
    "trace_id": {"trace_id": "trace"},
    "server_id": {"server_id": "other"},
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
    "category": "other",
    "trace_id": "trace",
    "server_id": "other",
    "user_id": "bob",
    "agent_id": "agent",
    "session_id": "session",
    "task_id": "task",
    "parent_execution_id": "parent",
    "request_id": "request",
}


@pytest.mark.parametrize("field", sorted(FACTS))
async def test_the_list_is_filtered_by_every_field(make_store: MakeStore, field: str) -> None:
    kept = make_store()
    await added(kept, "a", "c")
    await added(kept, "b", **FACTS[field])
    # A request id is one execution's for each credential.
    await added(kept, "d", **{"caller": Caller("acme", "key-2", "ann"), **FACTS[field]})
    assert await listed(kept, equal={field: VALUES[field]}) == ["d", "b"]
    assert await listed(kept, equal={field: "REJECTED"}) == []
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
