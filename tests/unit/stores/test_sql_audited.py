"""Executions, their entries in the audit trail and the erasing of their payloads, put together as a server does it."""

import asyncio
import json

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.contracts.executions import row
from toolwright_server.catalog.model import Effect
from toolwright_server.execution.evidence import ExecutionEvidence, payload_digest
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.checkpoints import Checkpointer
from toolwright_server.records.audit.exporting import Exporter
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.store import AuditQuery
from toolwright_server.stores.sql.audit import SqlAuditStore
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.retention import SqlRetention
from toolwright_server.stores.sql.tables import executions

from .written import writing

pytestmark = pytest.mark.asyncio

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
ARGUMENTS, RESULT = b'{"pin":"1234"}', b'{"balance":5678}'


async def run(store: SqlExecutionStore, execution: Execution, *, awaited: bool) -> None:
    assert await store.add(execution, awaited=awaited) is None
    execution.move(State.RUNNING)
    execution.move(State.SUCCEEDED)
    execution.result, execution.end_time, execution.stopped = RESULT, 1_001.0, Stopped.YES
    await store.settle(execution)


async def test_every_execution_leaves_its_entries_in_a_trail_that_verifies(database: Database) -> None:
    chains = Chains("server", 1)
    async with writing(database, linker=chains) as writer:
        store = SqlExecutionStore(database, writer, evidence=ExecutionEvidence())
        trail = SqlAuditStore(database, writer)
        effects = [Effect.SIDE_EFFECT, Effect.READ_ONLY, Effect.IDEMPOTENT] * 20
        await asyncio.gather(
            *(
                run(
                    store,
                    row(f"id-{number:02}", effect=effect, arguments=ARGUMENTS),
                    awaited=effect is Effect.SIDE_EFFECT,
                )
                for number, effect in enumerate(effects)
            )
        )
        await Checkpointer(chains, KEY, trail).sign()
        report = await Exporter(trail, KEY, "server").verify("acme")
        entries = await trail.list(AuditQuery("acme", 1_000))
    assert report.valid, report.problems
    kinds = {
        f"id-{number:02}": [entry.kind for entry in entries if entry.execution_id == f"id-{number:02}"]
        for number in range(3)
    }
    assert [sorted(each) for each in kinds.values()] == [["intent", "outcome"], ["call"], ["call"]]
    assert len(entries) == 1 + 20 * 4


async def test_erased_payloads_leave_a_trail_that_verifies_and_says_nothing_of_them(database: Database) -> None:
    chains = Chains("server", 1)
    async with writing(database, linker=chains) as writer:
        store = SqlExecutionStore(database, writer, evidence=ExecutionEvidence())
        trail = SqlAuditStore(database, writer)
        await run(store, row("00000000-0000-7000-8000-000000000000", arguments=ARGUMENTS), awaited=True)
        kept = await salt_and_payload(database)
        outcome, intent, _ = await trail.list(AuditQuery("acme", 3))
        assert json.loads(intent.body)["arguments"] == payload_digest(kept[0], "arguments", ARGUMENTS)
        assert json.loads(outcome.body)["result"] == payload_digest(kept[0], "result", RESULT)
        assert await SqlRetention(database, writer).payloads(2_000.0, 10) == 1
        assert await salt_and_payload(database) == (None, None, None)
        await Checkpointer(chains, KEY, trail).sign()
        pieces = [piece async for piece in Exporter(trail, KEY, "server").export("acme")]
        assert (await Exporter(trail, KEY, "server").verify("acme")).valid
    assert not any(secret in b"".join(pieces) for secret in (b'1234"', b"5678}", kept[0].hex().encode()))


async def salt_and_payload(database: Database) -> tuple[bytes, bytes, bytes]:
    query = sa.select(executions.c.salt, executions.c.arguments, executions.c.result)
    async with database.reading() as connection:
        salt, arguments, result = (await connection.execute(query)).one()
        return salt, arguments, result
