"""Circuits in the corridor: who is refused and told what, who may wait, and what counts."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.execution.house import House
from toolwright_server.catalog.context import ToolError
from toolwright_server.catalog.model import CircuitPolicy, Effect, RetryPolicy
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import Lost, ToolFailed, Work
from toolwright_server.execution.circuits.model import CircuitState
from toolwright_server.execution.events import Retried
from toolwright_server.execution.model import Execution, State
from toolwright_server.identity import ANONYMOUS

POLICY = CircuitPolicy(minimum_calls=2, open_seconds=8.0)
ONCE = RetryPolicy(attempts=1)
BROKEN = Failure(Reason.TOOL_FAILED, "the upstream said 503", retryable=True)


def upstream(house: House, *ends: Exception | None, **options: Any) -> list[int]:
    """`tests.remote`, whose upstream behaves so, and then answers; the list has an entry for each call of that."""
    reached: list[int] = []

    async def script(work: Work) -> bytes:
        reached.append(1)
        work.reporter.started()
        end = ends[len(reached) - 1] if len(reached) <= len(ends) else None
        if end is not None:
            raise end
        return b"1"

    house.remote(script, Effect.READ_ONLY, **{"upstream": "billing", "circuit": POLICY, "retry": ONCE, **options})
    return reached


def failed(count: int) -> list[Exception | None]:
    return [ToolFailed(BROKEN) for _ in range(count)]


def failure(execution: Execution) -> Failure:
    assert execution.failure is not None, execution
    return execution.failure


async def opened(house: House) -> None:
    for _ in range(POLICY.minimum_calls):
        await house.run("remote")


@pytest.mark.asyncio
async def test_an_open_circuit_refuses_before_anything_is_started_and_says_when_to_come_back(house: House) -> None:
    reached = upstream(house, *failed(2))
    await opened(house)
    execution = await house.run("remote")
    assert (execution.state, execution.attempts, execution.start_time, len(reached)) == (State.REJECTED, 0, None, 2)
    refused = failure(execution)
    assert (refused.reason, refused.retry_delay) == (Reason.CIRCUIT_OPEN, 8.0)
    assert {**refused.metadata, "execution_id": ""} == {
        "circuit": "billing",
        "circuit_state": "open",
        "outcome": "not_started",
        "execution_id": "",
    }
    assert refused.suggested_action == "Call this tool again in 8 s; no other tool is known to do its work."
    shown = house.metrics.render()
    assert 'toolwright_circuit_refused_total{toolwright_circuit_name="billing"} 1' in shown


@pytest.mark.asyncio
async def test_a_probe_closes_it(house: House) -> None:
    reached = upstream(house, *failed(2))
    await opened(house)
    house.now += 8.0
    assert (await house.run("remote")).state is State.SUCCEEDED
    assert (await house.run("remote")).state is State.SUCCEEDED
    assert len(reached) == 4
    assert [change.state for change in house.changes] == ["open", "half_open", "closed"]


@pytest.mark.asyncio
async def test_tools_that_name_the_same_upstream_share_its_circuit(house: House) -> None:
    upstream(house, *failed(2))

    async def other() -> int:
        return 1

    async def apart() -> int:
        return 1

    house.tool(other, upstream="billing", circuit=POLICY)
    house.tool(apart, circuit=POLICY)
    await opened(house)
    assert failure(await house.run("other")).reason is Reason.CIRCUIT_OPEN
    assert (await house.run("apart")).state is State.SUCCEEDED


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("settings", "scopes", "expected"),
    [
        ({}, ("*",), "tests.first"),
        ({"enabled": False}, ("*",), "tests.second"),
        ({"hidden": True}, ("*",), "tests.second"),
        ({}, ("tests.remote", "tests.second"), "tests.second"),
        ({"enabled": False}, ("tests.remote", "tests.first"), ""),
    ],
)
async def test_it_names_another_tool_that_the_caller_can_use(
    house: House, settings: dict[str, Any], scopes: tuple[str, ...], expected: str
) -> None:
    upstream(house, *failed(2), alternatives=["tests.gone", "tests.first", "tests.second"])

    async def first() -> int:
        return 1

    async def second() -> int:
        return 1

    house.tool(first)
    house.tool(second)
    house.tenant_sets("first", **settings)
    await opened(house)
    refused = failure(await house.run("remote", caller=replace(ANONYMOUS, scopes=scopes)))
    if expected:
        assert refused.suggested_action == f"Call {expected} instead, or this tool again in 8 s."
        assert refused.metadata["alternatives"].split(",")[0] == expected
    else:
        assert "no other tool" in refused.suggested_action
        assert "alternatives" not in refused.metadata


@pytest.mark.asyncio
async def test_it_does_not_send_callers_to_a_tool_whose_circuit_is_open_as_well(house: House) -> None:
    upstream(house, *failed(2), alternatives=["tests.twin"])

    async def twin() -> int:
        return 1

    house.tool(twin, upstream="billing", circuit=POLICY)
    await opened(house)
    assert "no other tool" in failure(await house.run("remote")).suggested_action


@pytest.mark.asyncio
async def test_a_call_that_has_failed_waits_for_the_circuit_when_its_deadline_allows_it(house: House) -> None:
    reached = upstream(house, *failed(2), retry=RetryPolicy(attempts=4))
    execution = await house.run("remote")
    assert (execution.state, execution.attempts, len(reached)) == (State.SUCCEEDED, 3, 3)
    # Between the first two by the tool's policy, then until the circuit lets a probe through.
    assert house.pauses == [1.0, 2.0, 6.0]
    told = [each for each in house.happenings(execution) if isinstance(each, Retried)]
    assert [each.failure.reason for each in told] == [Reason.TOOL_FAILED, Reason.TOOL_FAILED, Reason.CIRCUIT_OPEN]


@pytest.mark.asyncio
async def test_a_wait_for_the_circuit_that_is_too_long_is_not_begun_and_the_error_says_so(house: House) -> None:
    upstream(house, *failed(3), circuit=CircuitPolicy(minimum_calls=2, open_seconds=80.0), retry=RetryPolicy())
    execution = await house.run("remote")
    assert (execution.state, execution.attempts) == (State.FAILED, 2)
    told = failure(execution)
    # Why there was to be another attempt, and not that there was none.
    assert (told.message, told.metadata["attempts"]) == ("the upstream said 503", "2")
    assert told.metadata["no_retry"].startswith("the circuit of billing is open: tests.remote was not called; another")
    assert "outcome" not in told.metadata


@pytest.mark.asyncio
async def test_half_open_lets_one_through_and_the_others_come_back_soon(house: House) -> None:
    answer, probing, calls = asyncio.Event(), asyncio.Event(), list[int]()

    async def script(work: Work) -> bytes:
        calls.append(1)
        work.reporter.started()
        if len(calls) <= POLICY.minimum_calls:
            raise ToolFailed(BROKEN)
        probing.set()
        await answer.wait()
        return b"1"

    house.remote(script, circuit=POLICY, retry=ONCE)
    await opened(house)
    house.now += 8.0
    probe = await house.begin("remote")
    await asyncio.wait_for(probing.wait(), 5)
    others = await asyncio.gather(*(house.run("remote") for _ in range(20)))
    assert {failure(each).reason for each in others} == {Reason.CIRCUIT_OPEN}
    assert {failure(each).retry_delay for each in others} == {1.0}
    answer.set()
    assert await probe.ended(5)
    assert (probe.execution.state, len(calls)) == (State.SUCCEEDED, 3)
    assert (await house.run("remote")).state is State.SUCCEEDED


@pytest.mark.asyncio
async def test_neither_crashes_nor_bad_arguments_nor_impatient_callers_open_it(house: House) -> None:
    ends = [
        Lost(Failure(Reason.TOOL_CRASHED, "it died")),
        ToolFailed(Failure(Reason.TOOL_FAILED, "no", retryable=False)),
    ]
    upstream(house, *ends * 5)

    async def hangs() -> None:
        await asyncio.Event().wait()

    house.tool(hangs, upstream="billing", circuit=POLICY)
    for _ in range(10):
        await house.run("remote")
    for _ in range(5):
        assert (await house.run("hangs", timeout=0.01)).state is State.TIMED_OUT
    assert not house.changes


@pytest.mark.asyncio
async def test_an_upstream_that_keeps_the_tool_until_its_own_time_is_up_opens_it(house: House) -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await going_on.wait()

    going_on = asyncio.Event()
    house.tool(hangs, upstream="one", circuit=POLICY, timeout_seconds=0.05)
    house.tool(stubborn, upstream="two", circuit=POLICY, timeout_seconds=0.05)
    for name in ("hangs", "stubborn"):
        await house.run(name)
        await house.run(name)
        assert failure(await house.run(name)).reason is Reason.CIRCUIT_OPEN
    going_on.set()
    assert [change.state for change in house.changes] == [CircuitState.OPEN] * 2


@pytest.mark.asyncio
async def test_a_tenant_that_gives_a_tool_less_time_opens_it_for_nobody(house: House) -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    house.tool(hangs, upstream="one", circuit=POLICY, timeout_seconds=10.0)
    house.tenant_sets("hangs", timeout_seconds=0.02)
    for _ in range(4):
        assert (await house.run("hangs")).state is State.TIMED_OUT
    assert not house.changes


@pytest.mark.asyncio
async def test_a_side_effect_that_failed_is_not_tried_again_and_counts_all_the_same(house: House) -> None:
    async def send() -> None:
        raise ToolError("503", retryable=True)

    house.tool(send, Effect.SIDE_EFFECT, circuit=POLICY)
    for expected in (Reason.TOOL_FAILED, Reason.TOOL_FAILED, Reason.CIRCUIT_OPEN):
        assert failure(await house.run("send")).reason is expected
