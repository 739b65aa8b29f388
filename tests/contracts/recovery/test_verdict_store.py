import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Reason
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.execution.recovery.takeover import judged
from toolwright_server.execution.recovery.verdict import Judge, Verdict
from toolwright_server.records.audit.model import Kind

from .servers import LEASE_SECONDS, Server, Servers, left_behind

pytestmark = pytest.mark.asyncio
NOW = 2_000.0


def by_rule(row: Execution) -> Verdict:
    return judged(row, "survivor", NOW)


async def dead_and_survivor(survivors: Servers, *executions: Callable[[Server], Execution]) -> tuple[Server, Server]:
    """A server that has left these executions behind, with its lease ended, and one that lives."""
    dead, alive = await survivors.server("dead"), await survivors.server("survivor")
    await dead.leases.register(dead.own, LEASE_SECONDS)
    for make in executions:
        await dead.add(make(dead))
    await survivors.pass_time(LEASE_SECONDS + 1)
    await alive.leases.register(alive.own, LEASE_SECONDS)
    assert await alive.leases.end(dead.own)
    return dead, alive


def many(count: int) -> list[Callable[[Server], Execution]]:
    """`0190-0`, `0190-1`, ..."""

    def make(number: int, server: Server) -> Execution:
        return left_behind(server, f"0190-{number}")

    return [partial(make, number) for number in range(count)]


async def test_only_servers_without_a_lease_leave_orphans(survivors: Servers) -> None:
    one, two = await survivors.server("one"), await survivors.server("two")
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
        await each.add(left_behind(each, f"0190-{each.own.server_id}"))
    assert await one.verdicts.orphaned() == []
    await survivors.pass_time(LEASE_SECONDS + 1)
    # Not for as long as nobody has ended the lease.
    assert await one.verdicts.orphaned() == []
    assert await one.verdicts.settle(two.own, by_rule, 10) in ([], ())
    assert await one.leases.renew(one.own, LEASE_SECONDS)
    assert await one.leases.end(two.own)
    assert await one.verdicts.orphaned() == [two.own]


async def test_what_had_an_intent_may_have_happened_and_the_rest_failed(survivors: Servers) -> None:
    dead, alive = await dead_and_survivor(
        survivors,
        lambda server: left_behind(server, "0190-a", Effect.SIDE_EFFECT, request_id="a"),
        lambda server: left_behind(server, "0190-b", Effect.IDEMPOTENT, request_id="b", state=State.RUNNING),
        lambda server: left_behind(server, "0190-c", Effect.READ_ONLY, labels={"team": "x"}),
    )
    settled = await alive.verdicts.settle(dead.own, by_rule, 10)
    assert [row.execution_id for row in settled] == ["0190-a", "0190-b", "0190-c"]
    kept = {row.execution_id: row for row in await alive.verdicts.ended(["0190-a", "0190-b", "0190-c", "0190-d"])}
    assert {key: row.state for key, row in kept.items()} == {
        "0190-a": State.OUTCOME_UNKNOWN,
        "0190-b": State.FAILED,
        "0190-c": State.FAILED,
    }
    failures = {key: row.failure for key, row in kept.items()}
    assert all(failure is not None and failure.metadata["server_id"] == "dead" for failure in failures.values())
    assert [failure and failure.metadata["outcome"] for failure in failures.values()] == ["unknown", "unknown", "none"]
    assert kept["0190-c"].labels == {"team": "x"}
    assert {row.end_time for row in kept.values()} == {NOW}
    assert await alive.verdicts.orphaned() == []


async def test_a_side_effect_keeps_its_request_id_and_what_may_be_repeated_gives_it_back(survivors: Servers) -> None:
    dead, alive = await dead_and_survivor(
        survivors,
        lambda server: left_behind(server, "0190-a", Effect.SIDE_EFFECT, request_id="a"),
        lambda server: left_behind(server, "0190-b", Effect.IDEMPOTENT, request_id="b"),
    )
    first, second = await alive.verdicts.settle(dead.own, by_rule, 10)
    assert await survivors.is_claimed(first)
    assert not await survivors.is_claimed(second)


async def test_what_is_left_behind_is_settled_in_batches(survivors: Servers) -> None:
    dead, alive = await dead_and_survivor(survivors, *many(5))
    sizes = [len(await alive.verdicts.settle(dead.own, by_rule, 2)) for _ in range(4)]
    assert sizes == [2, 2, 1, 0]


async def test_survivors_that_settle_at_once_settle_each_execution_once(survivors: Servers) -> None:
    dead, alive = await dead_and_survivor(survivors, *many(20))
    other = await survivors.server("other")
    await other.leases.register(other.own, LEASE_SECONDS)
    batches = await asyncio.gather(
        *(each.verdicts.settle(dead.own, by_rule, 5) for _ in range(5) for each in (alive, other))
    )
    rest = await alive.verdicts.settle(dead.own, by_rule, 20)
    settled = [row.execution_id for batch in [*batches, rest] for row in batch]
    assert sorted(settled) == sorted(f"0190-{n}" for n in range(20))
    assert sorted(each.execution_id for each in survivors.audited) == sorted(settled)


async def test_each_verdict_has_its_entry_in_the_audit_trail(survivors: Servers) -> None:
    dead, alive = await dead_and_survivor(survivors, lambda server: left_behind(server, "0190-a"))
    await alive.verdicts.settle(dead.own, by_rule, 10)
    (said,) = survivors.audited
    assert (said.kind, said.execution_id, said.tenant) == (Kind.RECOVERY, "0190-a", "default")
    assert said.facts["dead_server"] == "dead"
    assert said.facts["by_server"] == "survivor"
    assert said.facts["state"] == "OUTCOME_UNKNOWN"


async def test_a_decision_sees_the_row_as_it_is_and_its_arguments(survivors: Servers) -> None:
    one = await survivors.server("one")
    await one.leases.register(one.own, LEASE_SECONDS)
    await one.add(left_behind(one, "0190-a", state=State.OUTCOME_UNKNOWN, arguments=b'{"n":1}', request_id="a"))

    def done(row: Execution) -> Verdict:
        assert row.arguments == b'{"n":1}'
        row.move(State.SUCCEEDED)
        row.result = b"42"
        return Verdict(row, Kind.RECONCILIATION, NOW)

    decided = await one.verdicts.decide("0190-a", done)
    assert decided is not None
    (kept,) = await one.verdicts.ended(["0190-a"])
    assert (kept.state, kept.result, kept.arguments) == (State.SUCCEEDED, b"42", b'{"n":1}')
    assert await survivors.is_claimed(kept)


async def test_a_decision_to_leave_it_changes_nothing(survivors: Servers) -> None:
    one = await survivors.server("one")
    await one.leases.register(one.own, LEASE_SECONDS)
    await one.add(left_behind(one, "0190-a", state=State.OUTCOME_UNKNOWN))
    left = await one.verdicts.decide("0190-a", lambda _: None)
    assert left is not None
    assert left.state is State.OUTCOME_UNKNOWN
    assert await one.verdicts.decide("0190-b", lambda _: None) is None
    assert survivors.audited == []


async def test_of_two_contradicting_decisions_one_counts(survivors: Servers) -> None:
    one, two = await survivors.server("one"), await survivors.server("two")
    for each in (one, two):
        await each.leases.register(each.own, LEASE_SECONDS)
    await one.add(left_behind(one, "0190-a", state=State.OUTCOME_UNKNOWN))

    def to(state: State) -> Judge:
        def judge(row: Execution) -> Verdict | None:
            if row.state is not State.OUTCOME_UNKNOWN:
                return None
            row.move(state)
            return Verdict(row, Kind.RECONCILIATION, NOW)

        return judge

    await asyncio.gather(
        one.verdicts.decide("0190-a", to(State.SUCCEEDED)), two.verdicts.decide("0190-a", to(State.FAILED))
    )
    (kept,) = await one.verdicts.ended(["0190-a"])
    assert [each.facts["state"] for each in survivors.audited] == [kept.state.name]


async def test_only_what_has_ended_is_answered_to_who_waits(survivors: Servers) -> None:
    one = await survivors.server("one")
    await one.leases.register(one.own, LEASE_SECONDS)
    await one.add(left_behind(one, "0190-a"))
    await one.add(left_behind(one, "0190-b", state=State.SUCCEEDED, result=b"1"))
    found = await one.verdicts.ended(["0190-a", "0190-b"])
    assert [(row.execution_id, row.result) for row in found] == [("0190-b", b"1")]


async def test_doubtful_are_those_of_dead_servers_whose_outcome_is_unknown(survivors: Servers) -> None:
    one = await survivors.server("one")
    two = await survivors.server("two")
    for server in (one, two):
        await server.leases.register(server.own, LEASE_SECONDS)
    unknown = State.OUTCOME_UNKNOWN
    # It may still be at work on whatever it was called for.
    await one.add(left_behind(one, "0190-a", state=unknown))
    for name, state in (("0190-d", unknown), ("0190-b", unknown), ("0190-c", State.FAILED), ("0190-e", State.QUEUED)):
        await two.add(left_behind(two, name, state=state))
    await two.leases.release(two.own)
    assert [row.execution_id for row in await one.verdicts.doubtful("", 9)] == ["0190-b", "0190-d"]
    assert [row.execution_id for row in await one.verdicts.doubtful("", 1)] == ["0190-b"]
    assert [row.execution_id for row in await one.verdicts.doubtful("0190-b", 9)] == ["0190-d"]


async def test_steps_are_those_that_the_execution_itself_has_made(survivors: Servers) -> None:
    one = await survivors.server("one")
    await one.leases.register(one.own, LEASE_SECONDS)
    whole = left_behind(one, "0190-a", task_id="0190-a")
    await one.add(whole)
    for name, parent in (("0190-b", "0190-a"), ("0190-c", "0190-b"), ("0190-d", "0190-a")):
        state = State.SUCCEEDED if name == "0190-d" else State.QUEUED
        await one.add(left_behind(one, name, task_id="0190-a", parent_execution_id=parent, state=state))
    found = await one.verdicts.steps(whole)
    assert sorted((row.execution_id, row.state) for row in found) == [
        ("0190-b", State.QUEUED),
        ("0190-d", State.SUCCEEDED),
    ]


async def test_nothing_is_settled_for_a_server_that_nobody_knows(survivors: Servers) -> None:
    one = await survivors.server("one")
    await one.leases.register(one.own, LEASE_SECONDS)
    assert list(await one.verdicts.settle(Lease("nobody", 1), by_rule, 10)) == []


async def test_the_reason_of_an_unknown_outcome_says_so(survivors: Servers) -> None:
    dead, alive = await dead_and_survivor(survivors, lambda server: left_behind(server, "0190-a"))
    (row,) = await alive.verdicts.settle(dead.own, by_rule, 10)
    assert row.failure is not None
    assert row.failure.reason is Reason.OUTCOME_UNKNOWN
