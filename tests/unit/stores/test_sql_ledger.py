"""Credits in the tables: over several servers, with the audit trail, after deaths, outages and with retention."""

import asyncio
import json
from typing import Any

import pytest
import sqlalchemy as sa

from tests.contracts.executions import OWNER, row
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.charging import reconciled
from toolwright_server.execution.evidence import ExecutionEvidence
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.execution.recovery.takeover import Recovery
from toolwright_server.execution.recovery.verdict import Verdict
from toolwright_server.identity import Caller, Role
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.model import Kind
from toolwright_server.records.audit.store import AuditQuery
from toolwright_server.records.ledger.model import Grant
from toolwright_server.records.ledger.report import Fault
from toolwright_server.records.ledger.store import LedgerQuery
from toolwright_server.stores.sql.audit import SqlAuditStore
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.ledger import SqlLedger
from toolwright_server.stores.sql.recovery import SqlRecovery
from toolwright_server.stores.sql.retention import SqlRetention
from toolwright_server.stores.sql.tables import ledger_entries, ledger_holds, request_ids, task_costs
from toolwright_server.stores.sql.writer import Writer

from .written import writing

pytestmark = pytest.mark.asyncio

OPERATOR = Caller("acme", "key-9", "olga", Role.OPERATOR)
GRANT = Grant("acme", "g-1", 500, "olga", note="to begin with")


def priced(execution_id: str, micros: int = 1, **facts: Any) -> Execution:
    return row(execution_id, hold_micros=micros, **facts)


def succeed(execution: Execution) -> None:
    if execution.state is State.QUEUED:
        execution.move(State.RUNNING)
    execution.move(State.SUCCEEDED)
    execution.end_time, execution.stopped = 1_001.0, Stopped.YES


async def spendable(ledger: SqlLedger) -> tuple[int, int]:
    report = await ledger.check(None)
    assert report.valid, report.problems
    found = await ledger.balance("acme")
    return found.available_micros, found.held_micros


async def called(store: SqlExecutionStore, execution: Execution) -> bool:
    """A call that costs something from its intent to its outcome; False when it could not be paid."""
    try:
        await store.add(execution)
    except ToolwrightError as error:
        assert error.failure.reason is Reason.INSUFFICIENT_CREDITS  # noqa: PT017 (the refusal is the outcome)
        return False
    succeed(execution)
    await store.settle(execution)
    return True


async def counted(database: Database, table: sa.Table) -> int:
    async with database.reading() as connection:
        return await connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


async def test_of_a_thousand_calls_through_two_servers_exactly_those_succeed_that_can_be_paid(
    database: Database,
) -> None:
    async with writing(database) as one, writing(database) as two:
        ledger = SqlLedger(database, one, audited=False)
        await ledger.grant(GRANT, OPERATOR)
        stores = [SqlExecutionStore(database, writer) for writer in (one, two)]
        calls = [
            called(stores[number % 2], priced(f"{number:04}", request_id=f"r-{number}")) for number in range(1_000)
        ]
        succeeded = await asyncio.gather(*calls)
        assert sum(succeeded) == 500
        assert await spendable(ledger) == (0, 0)
        report = await ledger.check("acme")
        assert (report.transactions, report.entries, report.holds) == (1 + 2 * 500, 2 * (1 + 2 * 500), 0)
        # What was refused left nothing behind: neither a row nor a claim.
        assert await counted(database, request_ids) == 500


async def test_servers_that_charge_different_tenants_in_any_order_do_not_wait_in_a_circle(database: Database) -> None:
    async with writing(database) as one, writing(database) as two:
        ledger = SqlLedger(database, one, audited=False)
        tenants = [f"t-{number}" for number in range(8)]
        for tenant in tenants:
            await ledger.grant(Grant(tenant, "g", 40, "olga"), OPERATOR)
        stores = [SqlExecutionStore(database, writer) for writer in (one, two)]
        orders = [tenants, tenants[::-1]]
        calls = [
            called(
                stores[number % 2],
                priced(f"{number:04}", task_id="shared", caller=Caller(orders[number % 2][number // 2 % 8], "k", "u")),
            )
            for number in range(640)
        ]
        assert sum(await asyncio.gather(*calls)) == 8 * 40
        assert await counted(database, task_costs) == 8
        report = await ledger.check(None)
        assert (report.valid, report.tenants) == (True, 8)


async def test_two_first_grants_at_once_are_both_kept_and_one_of_a_name_only_once(database: Database) -> None:
    async with writing(database) as one, writing(database) as two:
        ledgers = [SqlLedger(database, writer, audited=False) for writer in (one, two)]
        made = await asyncio.gather(
            *(ledger.grant(Grant("acme", name, 5, "olga"), OPERATOR) for ledger in ledgers for name in ("g-1", "g-2"))
        )
        assert sorted(each.repeated for each in made) == [False, False, True, True]
        assert await spendable(ledgers[0]) == (10, 0)


async def test_the_trail_says_who_granted_and_what_calls_cost_and_nothing_of_what_was_not_done(
    database: Database,
) -> None:
    chains = Chains("server", 1)
    async with writing(database, linker=chains) as writer:
        ledger = SqlLedger(database, writer)
        store = SqlExecutionStore(database, writer, evidence=ExecutionEvidence())
        for _ in range(2):
            await ledger.grant(GRANT, OPERATOR)
        assert await called(store, priced("a", 400))
        assert not await called(store, priced("b", 101))
        execution = priced("c", 100)
        await store.add(execution)
        execution.move(State.RUNNING)
        execution.move(State.OUTCOME_UNKNOWN)
        execution.end_time = 1_001.0
        await store.settle(execution)
        entries = await SqlAuditStore(database, writer).list(AuditQuery("acme", 100))
    said = {(entry.kind, entry.execution_id): json.loads(entry.body) for entry in entries}
    assert set(said) == {
        ("chain", ""),
        (Kind.CREDITS, ""),
        (Kind.INTENT, "a"),
        (Kind.OUTCOME, "a"),
        (Kind.INTENT, "c"),
        (Kind.OUTCOME, "c"),
    }
    assert len([entry for entry in entries if entry.kind == Kind.CREDITS]) == 1
    assert said[Kind.CREDITS, ""] == {
        "action": "granted",
        "amount_micros": 500,
        "by_tenant": "acme",
        "note": "to begin with",
        "request_id": "g-1",
    }
    assert said[Kind.OUTCOME, "a"]["cost_micros"] == 400
    assert said[Kind.OUTCOME, "c"]["held_micros"] == 100


async def test_a_survivor_gives_back_what_did_no_harm_and_keeps_held_what_nobody_knows(database: Database) -> None:
    # A server without a lease is a dead one.
    async with writing(database) as alive:
        ledger = SqlLedger(database, alive, audited=False)
        await ledger.grant(GRANT, OPERATOR)
        store = SqlExecutionStore(database, alive)
        await store.add(priced("harmless", 100, effect=Effect.READ_ONLY, server_id="dead"))
        await store.add(priced("unknown", 30, server_id="dead"))
        await Recovery(SqlRecovery(database, alive, audited=False), Lease("alive", 1)).run(anew=True)
        assert await spendable(ledger) == (470, 30)
        report = await ledger.check("acme")
        assert (report.holds, report.unknown_holds, report.held_micros) == (1, 1, 30)
        await store_verdict(database, alive, "unknown", State.SUCCEEDED)
        assert await spendable(ledger) == (470, 0)


async def store_verdict(database: Database, writer: Writer, execution_id: str, state: State) -> Execution:
    def judge(execution: Execution) -> Verdict:
        execution.move(state)
        execution.end_time = 1_002.0
        if state is State.SUCCEEDED:
            reconciled(execution)
        return Verdict(execution, Kind.RECONCILIATION, 1_002.0)

    found = await SqlRecovery(database, writer, audited=False).decide(execution_id, judge)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("state", "metered", "reported", "cost"),
    [
        (State.SUCCEEDED, False, 0, 100),
        (State.FAILED, False, 0, 0),
        # Nobody knows what it reported before it was lost: the most that it may have cost.
        (State.SUCCEEDED, True, 0, 100),
        (State.SUCCEEDED, True, 40, 40),
        (State.FAILED, True, 40, 40),
    ],
)
async def test_a_verdict_charges_or_gives_back_what_stayed_held(
    database: Database, state: State, metered: bool, reported: int, cost: int
) -> None:
    async with writing(database) as writer:
        ledger = SqlLedger(database, writer, audited=False)
        await ledger.grant(GRANT, OPERATOR)
        store = SqlExecutionStore(database, writer)
        execution = priced("a", 100, metered=metered)
        await store.add(execution)
        execution.move(State.RUNNING)
        execution.move(State.OUTCOME_UNKNOWN)
        execution.end_time, execution.reported_micros = 1_001.0, reported
        await store.settle(execution)
        assert await spendable(ledger) == (400, 100)
        assert (await store_verdict(database, writer, "a", state)).cost_micros == cost
        assert await spendable(ledger) == (500 - cost, 0)
        found = await store.get(OWNER, "a")
        assert found is not None
        assert (found.cost_micros, found.metered) == (cost, metered)


async def test_an_outcome_that_was_written_down_elsewhere_is_charged_when_it_comes_back_and_once(
    database: Database,
) -> None:
    async with writing(database) as writer:
        ledger = SqlLedger(database, writer, audited=False)
        await ledger.grant(GRANT, OPERATOR)
        store = SqlExecutionStore(database, writer)
        execution = priced("a", 100)
        await store.add(execution)
        succeed(execution)
        execution.cost_micros = 100
        recovery = SqlRecovery(database, writer, audited=False)
        for before in (State.QUEUED, State.SUCCEEDED):
            assert await recovery.restore(execution, (), frees=False) is before
            assert await spendable(ledger) == (400, 0)


async def test_a_caller_that_leaves_while_its_intent_is_kept_gets_its_credits_back(database: Database) -> None:
    async with writing(database) as writer:
        ledger = SqlLedger(database, writer, audited=False)
        await ledger.grant(GRANT, OPERATOR)
        store = SqlExecutionStore(database, writer)
        adding = asyncio.create_task(store.add(priced("a", 100, request_id="r")))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        await writer.flush()
        assert await spendable(ledger) == (500, 0)
        found = await store.get(OWNER, "a")
        assert found is not None
        assert (found.state, found.cost_micros) == (State.CANCELLED, 0)


async def test_retention_leaves_what_is_held_and_forgets_old_budgets(database: Database) -> None:
    async with writing(database, linker=Chains("server", 1)) as writer:
        ledger = SqlLedger(database, writer, audited=False)
        await ledger.grant(GRANT, OPERATOR)
        store = SqlExecutionStore(database, writer)
        ids = [f"00000000-0000-7000-8000-00000000000{number}" for number in range(2)]
        held, done = (priced(each, 10) for each in ids)
        await store.add(held)
        held.move(State.RUNNING)
        held.move(State.OUTCOME_UNKNOWN)
        held.end_time = 1_001.0
        held.failure = Failure(Reason.OUTCOME_UNKNOWN, "lost", metadata={"outcome": "unknown"})
        await store.settle(held)
        assert await called(store, done)
        far = 10.0**10
        assert await SqlRetention(database, writer).executions(far, 10) == 1
        assert await store.get(OWNER, ids[0]) is not None
        assert await store.get(OWNER, ids[1]) is None
        assert await counted(database, task_costs) == 0
        assert await spendable(ledger) == (480, 10)
        await store_verdict(database, writer, ids[0], State.FAILED)
        assert await spendable(ledger) == (490, 0)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (sa.update(ledger_entries).where(ledger_entries.c.kind == "hold").values(amount_micros=-7), Fault.UNBALANCED),
        (sa.delete(ledger_entries).where(ledger_entries.c.kind == "hold"), Fault.MISSING),
        (sa.text("UPDATE ledger_accounts SET balance_micros = balance_micros + 1 WHERE account = 'held'"), Fault.HELD),
        (sa.text("UPDATE ledger_accounts SET balance_micros = -1 WHERE account = 'available'"), Fault.NEGATIVE),
        (sa.text("DELETE FROM ledger_accounts WHERE account = 'revenue'"), Fault.BALANCE),
        (sa.update(ledger_holds).values(execution_id="a"), Fault.ORPHAN),
        (sa.text("DELETE FROM executions WHERE execution_id = 'b'"), Fault.ORPHAN),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_a_check_finds_what_is_wrong(database: Database, damage: Any, fault: Fault) -> None:
    async with writing(database) as writer:
        ledger = SqlLedger(database, writer, audited=False)
        await ledger.grant(GRANT, OPERATOR)
        store = SqlExecutionStore(database, writer)
        assert await called(store, priced("a", 100))
        await store.add(priced("b", 50))
        assert (await ledger.check(None)).valid

        await writer.submit(Change(statements=((damage, {}),)))
        report = await ledger.check(None)
        assert fault in {problem.fault for problem in report.problems}, report.problems
        assert all(problem.says for problem in report.problems)
        assert (await ledger.check("zenith")).valid
        assert await ledger.list(LedgerQuery("zenith", 10)) == []
