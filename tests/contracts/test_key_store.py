"""Every KeyStore: what is kept, listed and revoked alike, and what the audit trail is told where there is one."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity import Caller, Role
from toolwright_server.identity.keys import ApiKey
from toolwright_server.keys.store import KeyStore
from toolwright_server.records.audit.model import Entry
from toolwright_server.stores.memory.keys import MemoryKeyStore
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.keys import SqlKeyStore, key_entries
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.writer import Writer, WriterOptions

pytestmark = pytest.mark.asyncio

BY = Caller("acme", "ops", "olga", Role.OPERATOR)
KEY = ApiKey(
    key_id="0" * 16,
    tenant="acme",
    principal="planner",
    user="bob",
    role=Role.OPERATOR,
    acts_for=frozenset({"ann", "böb"}),
    scopes=("crm.*", "knowledge.search"),
    secret_hash=bytes(range(32)),
    create_time=1_000.5,
    expire_time=2_000.25,
    label="a label",
)


@dataclass
class Kept:
    """A store; `entries` are those of the audit trail, None where there is none. `writer` None: in memory."""

    store: KeyStore
    entries: list[Entry] | None = None
    writer: Writer | None = None


@pytest_asyncio.fixture
async def kept(store_url: str, tmp_path: Path) -> AsyncGenerator[Kept]:
    if not store_url:
        yield Kept(MemoryKeyStore())
        return
    options = DatabaseOptions(locate(store_url, tmp_path), timeout_seconds=30.0, synchronous="off")
    database = await Database.open(options)
    writer = Writer((SqliteSink if options.is_sqlite else PostgresSink)(options), WriterOptions(timeout_seconds=30.0))
    await writer.open()
    told: list[Entry] = []

    def evidence(action: str, key: ApiKey, by: Caller, time: float) -> Sequence[Any]:
        told.extend(key_entries(action, key, by, time))
        return ()

    yield Kept(SqlKeyStore(database, writer, evidence), told, writer)
    await writer.close()
    await database.close()


def keys(count: int, **fields: Any) -> list[ApiKey]:
    return [replace(KEY, key_id=f"{number:016d}", **fields) for number in range(count)]


async def test_a_key_comes_back_as_it_was(kept: Kept) -> None:
    await kept.store.add(KEY, BY)
    assert await kept.store.get(KEY.key_id) == KEY
    bare = replace(KEY, key_id="1" * 16, expire_time=None, acts_for=frozenset(), scopes=(), label="")
    await kept.store.add(bare, BY)
    assert await kept.store.get(bare.key_id) == bare


async def test_a_key_that_is_not_there_is_none(kept: Kept) -> None:
    assert await kept.store.get("nope") is None
    assert await kept.store.revoke("nope", 1.0, BY) is None
    assert list(await kept.store.list(None, "", 10)) == []


async def test_keys_are_listed_by_id_in_pages(kept: Kept) -> None:
    for key in reversed(keys(5)):
        await kept.store.add(key, BY)
    first = await kept.store.list(None, "", 3)
    rest = await kept.store.list(None, first[-1].key_id, 3)
    assert [key.key_id for key in (*first, *rest)] == [key.key_id for key in keys(5)]


async def test_a_tenants_list_holds_its_own_keys(kept: Kept) -> None:
    for key in (*keys(2), replace(KEY, key_id="z" * 16, tenant="other")):
        await kept.store.add(key, BY)
    assert [key.tenant for key in await kept.store.list("other", "", 10)] == ["other"]
    assert len(await kept.store.list("acme", "", 10)) == 2
    assert len(await kept.store.list(None, "", 10)) == 3


async def test_a_key_is_revoked_once(kept: Kept) -> None:
    await kept.store.add(KEY, BY)
    assert await kept.store.revoke(KEY.key_id, 1_500.0, BY) == replace(KEY, revoke_time=1_500.0)
    assert await kept.store.revoke(KEY.key_id, 1_600.0, BY) == replace(KEY, revoke_time=1_500.0)
    assert await kept.store.get(KEY.key_id) == replace(KEY, revoke_time=1_500.0)


async def test_what_was_revoked_since_is_told(kept: Kept) -> None:
    for number, key in enumerate(keys(4)):
        await kept.store.add(key, BY)
        if number:
            await kept.store.revoke(key.key_id, float(number), BY)
    assert set(await kept.store.revoked_since(2.0)) == {key.key_id for key in keys(4)[2:]}
    assert list(await kept.store.revoked_since(3.5)) == []


async def test_the_trail_is_told_what_changed_and_by_whom(kept: Kept) -> None:
    if kept.entries is None:
        pytest.skip("there is no audit trail in memory")
    await kept.store.add(KEY, BY)
    for time in (1_500.0, 1_600.0):
        await kept.store.revoke(KEY.key_id, time, BY)
    assert [(each.facts["action"], each.time, each.tenant, each.principal, each.user) for each in kept.entries] == [
        ("created", 1_000.5, "acme", "ops", "olga"),
        ("revoked", 1_500.0, "acme", "ops", "olga"),
    ]
    assert not any(KEY.secret_hash.hex() in repr(each) for each in kept.entries)


async def test_a_store_that_cannot_be_used_says_that_nothing_was_started(kept: Kept) -> None:
    if kept.writer is None:
        pytest.skip("memory is always there")
    await kept.writer.close()
    with pytest.raises(ToolwrightError) as caught:
        await kept.store.add(KEY, BY)
    assert caught.value.failure.reason is Reason.STORE_UNAVAILABLE
    assert caught.value.failure.metadata == {"outcome": "not_started"}
