"""What retention erases on each database, what it leaves, and what the audit trail says of it."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import pytest_asyncio
import sqlalchemy as sa

from tests.databases import database, database_url, postgres
from toolwright_server.artifacts.model import Artifact, encoded
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import Execution, State
from toolwright_server.identity import Caller
from toolwright_server.records.audit.chain import Chains
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.queries import id_at
from toolwright_server.stores.sql.retention import SqlRetention
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import audit_entries, executions, request_ids
from toolwright_server.stores.sql.writer import Writer

__all__ = ["database", "database_url", "postgres"]

pytestmark = pytest.mark.asyncio

DAY = 86_400.0
NOW = 1_795_000_000.0


def row(age_days: float, *, tenant: str = "acme", number: int = 0, **facts: Any) -> Execution:
    """An execution that was made so long before NOW and took a second."""
    created = NOW - age_days * DAY
    values: dict[str, Any] = {
        "state": State.SUCCEEDED,
        "end_time": created + 1,
        "arguments": b'{"a":1}',
        "result": b'"r"',
        "salt": b"salt",
        "request_id": "",
        **facts,
    }
    return Execution(
        execution_id=f"{id_at(created)}-7000-8000-{number:012x}",
        caller=Caller(tenant, "key", "ann"),
        tool="tests.work",
        tool_version="1",
        digest=b"\x00digest",
        server_id="server",
        epoch=1,
        trace_id="",
        create_time=created,
        deadline_time=created + 30,
        deadline_source=DeadlineSource.TOOL,
        as_json=True,
        task_id="",
        parent_execution_id="",
        session_id="",
        agent_id="",
        labels={},
        arguments_bytes=7,
        effect=Effect.SIDE_EFFECT,
        **values,
    )


@dataclass
class Kept:
    """A database with a writer, and what prunes it at the time NOW."""

    database: Database
    writer: Writer
    retention: SqlRetention

    async def add(self, *rows: Execution) -> None:
        for each in rows:
            await self.writer.submit(Change(each, claims=bool(each.request_id)))

    async def read(self, *columns: Any) -> list[Any]:
        async with self.database.reading() as connection:
            return [tuple(found) for found in await connection.execute(sa.select(*columns).order_by(columns[0]))]

    async def ids(self) -> list[str]:
        return [execution_id for (execution_id,) in await self.read(executions.c.execution_id)]

    async def facts(self) -> list[dict[str, Any]]:
        entries = await self.read(audit_entries.c.tenant, audit_entries.c.sequence, audit_entries.c.body)
        return [{"tenant": tenant, **orjson.loads(body)} for tenant, number, body in sorted(entries) if number > 1]


@pytest_asyncio.fixture
async def kept(database: Database) -> AsyncGenerator[Kept]:
    chains = Chains("server", 1)
    sink = (SqliteSink if database.options.is_sqlite else PostgresSink)(database.options, linker=chains)
    writer = Writer(sink)
    await writer.open()
    yield Kept(database, writer, SqlRetention(database, writer, lambda: NOW))
    await writer.close()


def days(rows: Sequence[Execution]) -> list[str]:
    return sorted(each.execution_id for each in rows)


async def test_executions_go_when_they_ended_too_long_ago(kept: Kept) -> None:
    old, young = [row(3), row(2.1)], [row(1.9), row(0)]
    await kept.add(*old, *young)
    assert await kept.retention.executions(NOW - 2 * DAY, 10) == 2
    assert await kept.ids() == days(young)
    assert await kept.retention.executions(NOW - 2 * DAY, 10) == 0


async def test_what_has_not_ended_stays_however_old_it_is(kept: Kept) -> None:
    running = row(9, state=State.RUNNING, end_time=None)
    late = row(9, number=1, end_time=NOW - DAY)
    await kept.add(running, late)
    assert await kept.retention.executions(NOW - 2 * DAY, 10) == 0
    assert await kept.retention.payloads(NOW - 2 * DAY, 10) == 0
    assert await kept.ids() == days([running, late])


async def test_the_oldest_go_first_in_batches(kept: Kept) -> None:
    rows = [row(9, number=number) for number in range(7)]
    await kept.add(*rows)
    assert await kept.retention.executions(NOW - 2 * DAY, 3) == 3
    assert await kept.ids() == days(rows[3:])
    assert [await kept.retention.executions(NOW - 2 * DAY, 3) for _ in range(3)] == [3, 1, 0]
    assert await kept.ids() == []


async def test_payloads_go_with_their_digest_and_the_rest_stays(kept: Kept) -> None:
    old, young, bare = row(3, request_id="r"), row(1, request_id="s"), row(3, number=1, arguments=None, result=None)
    await kept.add(old, young, bare)
    assert await kept.retention.payloads(NOW - 2 * DAY, 10) == 2
    columns = [executions.c[name] for name in ("execution_id", "arguments", "result", "digest", "salt")]
    assert await kept.read(*columns) == [
        (old.execution_id, None, None, b"", None),
        (bare.execution_id, None, None, b"", None),
        (young.execution_id, b'{"a":1}', b'"r"', b"\x00digest", b"salt"),
    ]
    assert await kept.read(request_ids.c.request_id, request_ids.c.digest) == [("r", b""), ("s", b"\x00digest")]
    assert await kept.retention.payloads(NOW - 2 * DAY, 10) == 0


async def test_descriptions_of_artifacts_go_with_the_payloads(kept: Kept) -> None:
    artifact = Artifact(1, "a.csv", "text/csv", 3, "0" * 64, "a,b", None)
    facts: dict[str, Any] = {"arguments": None, "result": None, "salt": None, "artifacts": (artifact,)}
    old, young = row(3, **facts), row(1, **facts)
    await kept.add(old, young)
    assert await kept.retention.payloads(NOW - 2 * DAY, 10) == 1
    assert await kept.read(executions.c.execution_id, executions.c.artifacts) == [
        (old.execution_id, None),
        (young.execution_id, encoded((artifact,))),
    ]


async def test_what_only_operators_were_told_goes_with_the_payloads(kept: Kept) -> None:
    failure = Failure(Reason.TOOL_FAILED, "no", admin_message="ValueError: hush")
    facts: dict[str, Any] = {"state": State.FAILED, "arguments": None, "result": None, "salt": None, "failure": failure}
    old, young = row(3, **facts), row(1, **facts)
    old.digest = young.digest = b""
    await kept.add(old, young)
    assert await kept.retention.payloads(NOW - 2 * DAY, 10) == 1
    assert await kept.read(executions.c.execution_id, executions.c.admin_message) == [
        (old.execution_id, None),
        (young.execution_id, "ValueError: hush"),
    ]


async def test_payloads_that_grow_old_after_a_run_go_in_the_next(kept: Kept) -> None:
    rows = [row(3), row(1.5), row(0.5)]
    await kept.add(*rows)
    # One that ran so long that it ended only after younger ones.
    slow = row(2.9, number=1, end_time=NOW - 2 * DAY + 1)
    await kept.add(slow)
    assert await kept.retention.payloads(NOW - 2 * DAY, 10) == 1
    assert await kept.retention.payloads(NOW - DAY, 10) == 2
    assert await kept.retention.payloads(NOW, 10) == 1
    assert await kept.read(executions.c.arguments) == [(None,)] * 4


async def test_the_claim_of_a_request_id_goes_with_its_execution_and_a_newer_one_stays(kept: Kept) -> None:
    first, second, third = row(9, request_id="r"), row(8, request_id="s"), row(0, request_id="s", number=1)
    await kept.add(first, second)
    expired = sa.update(request_ids).where(request_ids.c.request_id == "s").values(expire_time=0.0)
    await kept.writer.submit(Change(statements=((expired, {}),)))
    await kept.add(third)
    assert await kept.retention.executions(NOW - 2 * DAY, 10) == 2
    assert await kept.read(request_ids.c.request_id, request_ids.c.execution_id) == [("s", third.execution_id)]


async def test_every_commit_is_an_entry_of_each_tenant_that_lost_something(kept: Kept) -> None:
    rows = [row(9, number=1), row(9, number=2), row(9, number=3, tenant="other")]
    await kept.add(*rows, row(0))
    await kept.retention.payloads(NOW - 2 * DAY, 10)
    await kept.retention.executions(NOW - 3 * DAY, 2)
    first, second, third = (each.execution_id for each in rows)
    before = int(NOW - 2 * DAY)
    assert await kept.facts() == [
        {"tenant": "acme", "what": "payloads", "before": before, "count": 2, "first": first, "last": second},
        {
            "tenant": "acme",
            "what": "executions",
            "before": int(NOW - 3 * DAY),
            "count": 2,
            "first": first,
            "last": second,
        },
        {"tenant": "other", "what": "payloads", "before": before, "count": 1, "first": third, "last": third},
    ]
    assert await kept.retention.executions(0.0, 10) == 0
    assert len(await kept.facts()) == 3


async def test_a_database_that_is_gone_is_said_as_such(kept: Kept) -> None:
    await kept.add(row(9))
    await kept.writer.close()
    with pytest.raises(ToolwrightError) as caught:
        await kept.retention.executions(NOW, 10)
    assert caught.value.failure.reason is Reason.STORE_UNAVAILABLE
