"""Kept answers: who gets them, for how long, and that they cost nothing."""

import time

import pytest

from tests.unit.execution.corridor import somebody
from tests.unit.execution.house import House
from tests.unit.execution.sharing import ADA, BOB, KEPT, Gate, call, ended
from tests.unit.execution.test_admission import allowing
from toolwright_server.catalog.context import ToolError
from toolwright_server.catalog.model import CachePolicy
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.events import StateChanged
from toolwright_server.execution.model import CacheMode, Invocation, Source, State, Stopped
from toolwright_server.execution.recall.engine import Results
from toolwright_server.identity import Caller
from toolwright_server.limits.model import Kind
from toolwright_server.stores.memory.results import MemoryResultStore, ResultBounds

pytestmark = pytest.mark.asyncio


def opened(house: House, cache: CachePolicy = KEPT) -> Gate:
    gate = Gate(house, cache)
    gate.go.set()
    return gate


async def test_the_second_call_is_answered_without_the_tool(house: House) -> None:
    gate = opened(house)
    first, second = await ended(house, call()), await ended(house, call())
    assert gate.runs == 1
    assert (first.source, first.cached_time, first.source_execution_id) == (Source.TOOL, None, "")
    assert (second.source, second.result, second.state) == (Source.CACHE, b"1", State.SUCCEEDED)
    assert (second.cached_time, second.source_execution_id) == (first.end_time, first.execution_id)
    assert (second.attempts, second.start_time, second.stopped) == (0, None, Stopped.UNSPECIFIED)
    assert second.execution_id != first.execution_id
    assert await house.store.get(ADA, second.execution_id) is second
    assert house.happenings(second) == [StateChanged(State.QUEUED, State.SUCCEEDED)]


@pytest.mark.parametrize(
    "other",
    [
        call(1),
        call(caller=BOB),
        call(caller=somebody(principal="another", user="ada")),
        call(caller=somebody("acme", user="ada")),
    ],
    ids=["arguments", "user", "principal", "tenant"],
)
async def test_who_asks_something_else_or_is_somebody_else_has_a_call_of_its_own(
    house: House, other: Invocation
) -> None:
    gate = opened(house)
    await ended(house, call())
    assert (await ended(house, other)).source is Source.TOOL
    assert gate.runs == 2


async def test_a_tool_may_share_its_answers_in_the_tenant_without_naming_whose_they_were(house: House) -> None:
    gate = opened(house, CachePolicy(60, scope="tenant"))
    await ended(house, call())
    second = await ended(house, call(caller=somebody(principal="another", user="bob")))
    assert (second.source, second.result, second.source_execution_id) == (Source.CACHE, b"1", "")
    assert (await ended(house, call(caller=somebody("acme")))).source is Source.TOOL
    assert gate.runs == 2


async def test_an_answer_is_kept_for_its_time_and_no_longer(house: House) -> None:
    now = [0.0]
    house.results = Results(MemoryResultStore(ResultBounds(10, 10_000), lambda: now[0]))
    gate = opened(house)
    await ended(house, call())
    now[0] = 59.9
    assert (await ended(house, call())).source is Source.CACHE
    now[0] = 60.0
    assert (await ended(house, call())).source is Source.TOOL
    assert gate.runs == 2


async def test_what_was_kept_under_a_longer_time_is_as_old_as_it_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = opened(house, CachePolicy(60))
    await ended(house, call())
    later = time.time() + 61
    monkeypatch.setattr(house.executor._recall, "_clock", lambda: later)  # pyright: ignore[reportPrivateUsage]
    assert (await ended(house, call())).source is Source.TOOL
    assert gate.runs == 2


async def test_bypass_neither_reads_nor_keeps(house: House) -> None:
    gate = opened(house)
    await ended(house, call(cache_mode=CacheMode.BYPASS))
    await ended(house, call())
    assert (await ended(house, call(cache_mode=CacheMode.BYPASS))).result == b"3"
    assert (await ended(house, call())).result == b"2"
    assert gate.runs == 3


async def test_refresh_calls_the_tool_and_keeps_what_it_answers(house: House) -> None:
    gate = opened(house)
    await ended(house, call())
    assert (await ended(house, call(cache_mode=CacheMode.REFRESH))).source is Source.TOOL
    assert (await ended(house, call())).result == b"2"
    assert gate.runs == 2


async def test_a_tool_without_a_policy_is_called_each_time(house: House) -> None:
    gate = Gate(house, cache=None)
    gate.go.set()
    assert [(await ended(house, call())).result for _ in range(2)] == [b"1", b"2"]


async def test_failures_are_not_kept(house: House) -> None:
    gate = opened(house)
    gate.error = ToolError("not now")
    assert (await ended(house, call())).state is State.FAILED
    gate.error = None
    assert (await ended(house, call())).result == b"2"


async def test_an_answer_that_is_too_large_is_not_kept(house: House) -> None:
    house.results = Results(house.results.own, limit_bytes=0)
    gate = opened(house)
    await ended(house, call())
    await ended(house, call())
    assert gate.runs == 2


async def test_a_kept_answer_takes_nothing_from_a_limit_and_is_given_when_nothing_is_left_of_it(house: House) -> None:
    house.rules = allowing(Kind.WINDOW, 1)
    opened(house)
    await ended(house, call())
    assert [(await ended(house, call())).source for _ in range(3)] == [Source.CACHE] * 3
    with pytest.raises(ToolwrightError) as caught:
        await ended(house, call(1))
    assert caught.value.failure.reason is Reason.RATE_LIMITED


async def test_a_kept_answer_costs_nothing(house: House) -> None:
    gate = Gate(house, KEPT, price=5)
    gate.go.set()
    assert (await ended(house, call())).cost_micros == 5_000_000
    again = await ended(house, call(max_cost_micros=0))
    assert (again.source, again.hold_micros, again.cost_micros) == (Source.CACHE, 0, 0)


async def test_a_request_id_names_the_kept_answer_too(house: House) -> None:
    gate = opened(house)
    first = await ended(house, call())
    second = await ended(house, call(request_id="r"))
    asked = call(request_id="r")
    again = await house.executor.execute(asked)
    assert again.execution.execution_id == second.execution_id != first.execution_id
    assert await house.store.find(ADA, "r") is second
    assert gate.runs == 1


async def test_what_a_tenant_gives_the_tool_is_part_of_what_is_asked(house: House) -> None:
    gate = opened(house)
    acme = Caller("acme", "key", "ada")

    def setting(revision: int, fixed: bytes) -> None:
        settings = ToolSettings(tenant="acme", tool="tests.held", revision=revision, fixed_arguments=fixed)
        house.executor._catalog.tenants.adopt([settings])  # pyright: ignore[reportPrivateUsage]

    setting(1, b'{"n":1}')
    assert (await ended(house, plain(acme))).result == b"1"
    setting(2, b'{"n":2}')
    assert (await ended(house, plain(acme))).result == b"2"
    setting(3, b'{"n":1}')
    assert (await ended(house, plain(acme))).result == b"1"
    assert gate.runs == 2


async def test_a_tool_that_was_turned_off_answers_nothing_that_was_kept(house: House) -> None:
    opened(house)
    acme = Caller("acme", "key", "ada")
    await ended(house, call(caller=acme))
    off = ToolSettings(tenant="acme", tool="tests.held", revision=1, enabled=False)
    house.executor._catalog.tenants.adopt([off])  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ToolwrightError) as caught:
        await ended(house, call(caller=acme))
    assert caught.value.failure.reason is Reason.TOOL_DISABLED


def plain(caller: Caller) -> Invocation:
    """A call without arguments."""
    asked = call(caller=caller)
    asked.arguments, asked.canonical = {}, b"{}"
    return asked
