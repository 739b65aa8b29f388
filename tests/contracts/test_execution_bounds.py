import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolwright_server.artifacts.model import Artifact
from toolwright_server.execution.events import Wrote
from toolwright_server.execution.model import Execution

from .conftest import MakeMemoryStore
from .executions import OWNER, added, listed, refused, settled, there

pytestmark = pytest.mark.asyncio


async def test_evicting_an_older_one_leaves_the_newest_of_a_request_id(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(count=1)
    (first,) = await added(kept, "a", request_id="r")
    await refused(kept, first)
    (second,) = await added(kept, "b", request_id="r")
    await settled(kept, second)
    found = await kept.store.find(OWNER, "r")
    assert found is not None
    assert found.execution_id == "b"


async def test_an_evicted_request_id_finds_nothing(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(count=0)
    (execution,) = await added(kept, "a", request_id="r")
    await settled(kept, execution)
    assert await kept.store.find(OWNER, "r") is None


async def test_a_page_goes_on_behind_an_entry_that_was_evicted(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(count=0)
    rows = await added(kept, "a", "b", "c")
    await settled(kept, rows[1])
    assert await listed(kept, before="b") == ["a"]


async def test_beyond_the_count_those_that_ended_first_go_first(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(count=2)
    a, b, c, d = await added(kept, "a", "b", "c", "d")
    for each in (c, a, d, b):
        await settled(kept, each)
    assert await listed(kept) == ["d", "b"]


async def test_beyond_the_bytes_the_oldest_go(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(size_bytes=350_000)
    for each in await added(kept, "a", "b", "c", "d"):
        await settled(kept, each, result=b'"' + b"x" * 100_000 + b'"')
    assert await listed(kept) == ["d", "c", "b"]


async def test_descriptions_of_artifacts_count_for_the_bytes(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(size_bytes=350_000)
    for each in await added(kept, "a", "b", "c", "d"):
        # A character of this text takes four bytes.
        each.artifacts = tuple(
            Artifact(number, f"{number}.txt", "text/plain", 1, "0" * 64, "\U0001f600" * 1_024, None)
            for number in range(24)
        )
        await settled(kept, each)
    assert await listed(kept) == ["d", "c", "b"]


async def test_events_count_for_the_bytes_and_go_with_their_execution(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(size_bytes=350_000)
    for each in await added(kept, "a", "b", "c", "d"):
        kept.logs.open(each.execution_id).append(0.0, Wrote("output", "x" * 100_000))
        await settled(kept, each)
    assert await listed(kept) == ["d", "c", "b"]
    assert kept.logs.find("a") is None
    assert kept.logs.find("b") is not None


async def test_what_alone_is_larger_than_all_that_may_be_kept_goes_at_once(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(size_bytes=50_000)
    (execution,) = await added(kept, "a")
    await settled(kept, execution, result=b'"' + b"x" * 100_000 + b'"')
    assert await listed(kept) == []


async def test_what_ended_too_long_ago_goes_with_the_next_that_ends(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(age_seconds=60)
    a, b, c = await added(kept, "a", "b", "c")
    await settled(kept, a, at=2_000.0)
    kept.now = 2_050.0
    await settled(kept, b, at=2_050.0)
    assert await there(kept, "abc") == ["a", "b", "c"]
    kept.now = 2_061.0
    await settled(kept, c, at=2_061.0)
    assert await there(kept, "abc") == ["b", "c"]


async def test_what_still_runs_is_never_evicted(make_memory_store: MakeMemoryStore) -> None:
    kept = make_memory_store(count=1, size_bytes=10_000, age_seconds=1)
    await added(kept, *"abc", create_time=0.0)
    kept.now = 1e9
    for each in await added(kept, "d", "e", "f"):
        await settled(kept, each, at=kept.now)
    assert await listed(kept) == ["f", "c", "b", "a"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5_000)), max_size=40), st.integers(0, 4))
async def test_whatever_the_order_of_ends_the_last_ones_are_kept(
    make_memory_store: MakeMemoryStore, ends: list[tuple[int, int]], count: int
) -> None:
    kept = make_memory_store(count=count)
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
