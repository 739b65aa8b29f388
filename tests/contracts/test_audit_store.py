"""Every AuditStore: what is written through its writer is listed, exported, verified and pruned alike."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toolwright_server.conditions import ALWAYS, All, Comparison, Condition, Either, Not, Relation
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.checkpoints import Checkpointer
from toolwright_server.records.audit.exporting import Exporter
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.model import Entry, Head, Kind, Row
from toolwright_server.records.audit.offline.verifier import Verifier
from toolwright_server.records.audit.pruning import Pruning
from toolwright_server.records.audit.store import AuditQuery, AuditStore
from toolwright_server.stores.memory.audit import MemoryAuditStore
from toolwright_server.stores.sql.audit import SqlAuditStore
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tables import servers
from toolwright_server.stores.sql.writer import Writer, WriterOptions

pytestmark = pytest.mark.asyncio

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
NOW = 86_400_000.0


@dataclass
class Kept:
    """A store, and how entries come into it."""

    store: AuditStore
    chains: Chains
    write: Callable[[Sequence[Entry]], Awaitable[None]]
    now: float = NOW

    @property
    def checkpointer(self) -> Checkpointer:
        return Checkpointer(self.chains, KEY, self.store, clock=lambda: self.now)

    @property
    def exporter(self) -> Exporter:
        return Exporter(self.store, KEY, "server-1", lambda: self.now)


@asynccontextmanager
async def in_memory() -> AsyncGenerator[Kept]:
    chains = Chains("server-1", 1)
    store = MemoryAuditStore(chains)

    async def write(entries: Sequence[Entry]) -> None:
        store.write(*entries)

    yield Kept(store, chains, write)


@asynccontextmanager
async def in_database(url: str, folder: Path) -> AsyncGenerator[Kept]:
    options = DatabaseOptions(locate(url, folder), timeout_seconds=30.0, synchronous="off")
    database = await Database.open(options)
    chains = Chains("server-1", 1)
    sink = SqliteSink if options.is_sqlite else PostgresSink
    writer = Writer(sink(options, linker=chains), WriterOptions(timeout_seconds=30.0))
    await writer.open()
    own = {"server_id": "server-1", "epoch": 1, "lease_time": 0.0, "start_time": 0.0, "address": ""}
    await writer.submit(Change(statements=((sa.insert(servers), own),)))

    async def write(entries: Sequence[Entry]) -> None:
        await writer.submit(Change(entries=entries))

    yield Kept(SqlAuditStore(database, writer), chains, write)
    await writer.close()
    await database.close()


@pytest_asyncio.fixture
async def kept(store_url: str, tmp_path: Path) -> AsyncGenerator[Kept]:
    async with in_database(store_url, tmp_path) if store_url else in_memory() as found:
        yield found


def entry(number: int, tenant: str = "acme", user: str = "ann", **facts: str) -> Entry:
    return Entry(Kind.CALL, tenant, "key-1", user, NOW + number, f"id-{number}", facts)


async def listed(kept: Kept, condition: Condition = ALWAYS, **query: object) -> list[str]:
    asked = AuditQuery(**{"tenant": "acme", "limit": 100, "condition": condition, **query})  # pyright: ignore[reportArgumentType]
    return [row.execution_id for row in await kept.store.list(asked)]


async def test_entries_are_listed_newest_first(kept: Kept) -> None:
    await kept.write([entry(1), entry(2)])
    await kept.write([entry(3)])
    assert await listed(kept) == ["id-3", "id-2", "id-1", ""]


async def test_a_page_goes_on_where_the_one_before_ended_also_among_equal_times(kept: Kept) -> None:
    await kept.write([entry(1)] * 5 + [entry(2)] * 5)
    found: list[tuple[float, str, int]] = []
    before: tuple[float, str, int] | None = None
    while rows := await kept.store.list(AuditQuery("acme", 3, before=before)):
        found += [(row.time, row.chain_id, row.sequence) for row in rows]
        before = found[-1]
    assert len(found) == len(set(found)) == 11
    assert found == sorted(found, reverse=True)


async def test_tenants_and_users_see_their_own(kept: Kept) -> None:
    await kept.write([entry(1), entry(2, user="bob"), entry(3, tenant="zenith")])
    assert await listed(kept, tenant="zenith") == ["id-3", ""]
    assert await listed(kept, users=frozenset({"ann"})) == ["id-1"]
    assert await listed(kept, users=frozenset[str]()) == []


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Comparison("execution_id", Relation.EQUAL, "id-2"), [2]),
        (Comparison("user_id", Relation.EQUAL, "bob"), [2, 4]),
        (Comparison("execution_id", Relation.PREFIX, "id-"), [1, 2, 3, 4]),
        (Comparison("kind", Relation.EQUAL, "chain"), [0]),
        (Comparison("principal", Relation.EXISTS), [0, 1, 2, 3, 4]),
        (Comparison("time", Relation.BEFORE, NOW + 2), [0, 1]),
        (Comparison("time", Relation.NOT_BEFORE, NOW + 3), [3, 4]),
        (Not(Comparison("user_id", Relation.EQUAL, "bob")), [0, 1, 3]),
        (
            All((Comparison("user_id", Relation.EQUAL, "bob"), Comparison("time", Relation.AFTER, NOW + 2))),
            [4],
        ),
        (
            Either((Comparison("execution_id", Relation.EQUAL, "id-1"), Comparison("time", Relation.EQUAL, NOW + 3))),
            [1, 3],
        ),
    ],
    ids=str,
)
async def test_a_condition_asks_the_same_everywhere(kept: Kept, condition: Condition, found: list[int]) -> None:
    await kept.write([entry(number, user="bob" if number % 2 == 0 else "ann") for number in range(1, 5)])
    names = {0: ""} | {number: f"id-{number}" for number in range(1, 5)}
    assert sorted(await listed(kept, condition)) == sorted(names[number] for number in found)


async def test_chains_are_read_from_end_to_end(kept: Kept) -> None:
    await kept.write([entry(number, tenant="acme" if number % 2 else "zenith") for number in range(20)])
    spans = await kept.store.spans(None)
    assert [span.last.chain_id for span in spans] == sorted(span.last.chain_id for span in spans)
    assert {(span.tenant, span.first, span.last.sequence) for span in spans} == {("acme", 1, 11), ("zenith", 1, 11)}
    assert [span.tenant for span in await kept.store.spans("acme")] == ["acme"]
    last = spans[0].last
    rows = await kept.store.entries(last.chain_id, 3, 9, 4)
    assert [row.sequence for row in rows] == [4, 5, 6, 7]
    assert [row.sequence for row in await kept.store.entries(last.chain_id, 7, 9, 4)] == [8, 9]
    assert {head.hash for head in kept.chains.heads()} == {span.last.hash for span in spans}


async def test_a_checkpoint_is_kept_once(kept: Kept) -> None:
    await kept.write([entry(1)])
    await kept.checkpointer.sign()
    (checkpoint,) = await kept.store.checkpoints(("", 0), 10)
    await kept.store.keep(checkpoint)
    assert await kept.store.checkpoints(("", 0), 10) == [checkpoint]
    assert await kept.store.checkpoints((checkpoint.chain_id, checkpoint.sequence), 10) == []


async def test_the_newest_checkpoint_of_each_server_is_its_tip(kept: Kept) -> None:
    checkpointer = kept.checkpointer
    for number in range(3):
        kept.now = NOW + number
        await kept.write([entry(number)])
        await checkpointer.sign()
    (other,) = await kept.store.checkpoints(("", 0), 1)
    await kept.store.keep(other._replace(chain_id="f" * 24, time=NOW + 50))
    tips = await kept.store.tips(10)
    assert [(tip.chain_id == "f" * 24, tip.sequence) for tip in tips] == [(True, 1), (False, 3)]
    assert len(await kept.store.tips(1)) == 1


async def test_what_was_written_is_exported_and_verifies(kept: Kept) -> None:
    for number in range(0, 1_500, 50):
        await kept.write([entry(each, tenant=f"tenant-{each % 3}") for each in range(number, number + 50)])
    await kept.checkpointer.sign()
    kept.now += 2_000.0
    report = await kept.exporter.verify(None)
    assert report.valid, report.problems
    assert (report.entries, report.chains, report.unsigned) == (1_503, 3, 0)
    verifier = Verifier(KEY.trusted)
    for line in b"".join([piece async for piece in kept.exporter.export("tenant-1")]).splitlines():
        verifier.feed(line)
    found = verifier.finish()
    assert found.valid, found.problems
    assert found.entries == 501


async def test_who_holds_a_lease_is_alive(kept: Kept) -> None:
    assert list(await kept.store.alive()) == [("server-1", 1)]


async def test_a_pruned_trail_verifies_and_goes_on(kept: Kept) -> None:
    checkpointer = kept.checkpointer
    for number in range(30):
        kept.now = NOW + number
        await kept.write([entry(number), entry(number, tenant="zenith")])
        if number % 10 == 9:
            await checkpointer.sign()
    kept.now = NOW + 100
    count = await Pruning(kept.store, kept.exporter, checkpointer).prune(NOW + 15)
    assert (count.entries, count.checkpoints) == (32, 1)
    await kept.write([entry(31)])
    await checkpointer.sign()
    report = await kept.exporter.verify(None)
    assert report.valid, report.problems
    assert {span.first for span in await kept.store.spans(None)} == {17}


async def test_pruning_what_is_gone_already_changes_nothing(kept: Kept) -> None:
    await kept.store.prune([Head("a" * 24, 5, bytes(32))], [Head("b" * 24, 5, bytes(32))], [])
    assert await kept.store.spans(None) == []


async def test_what_comes_out_is_what_went_in(kept: Kept) -> None:
    await kept.write(
        [Entry("kind", "acme", "prïncipal", "üser", NOW + 0.123456, "id", {"text": "ü\x00", "none": None})]
    )
    row = (await kept.store.list(AuditQuery("acme", 1)))[0]
    assert row[2:9] == (
        NOW + 0.123456,
        "acme",
        "kind",
        "prïncipal",
        "üser",
        "id",
        b'{"none":null,"text":"\xc3\xbc\\u0000"}',
    )
    assert isinstance(row, Row)
