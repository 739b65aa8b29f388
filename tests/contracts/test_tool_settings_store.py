"""Every ToolSettingsStore: what is kept, changed and listed alike, and what the trail is told where there is one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from toolwright_server.catalog.settings_model import FIELDS, LIMIT_KINDS, ToolSettings
from toolwright_server.catalog.settings_store import ToolSettingsStore
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.evidence import payload_digest
from toolwright_server.identity import Caller, Role
from toolwright_server.limits.model import Kind as LimitKind
from toolwright_server.records.audit.model import Entry, Kind
from toolwright_server.stores.memory.tool_settings import MemoryToolSettingsStore
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.tool_settings import SqlToolSettingsStore, settings_entries
from toolwright_server.stores.sql.writer import Writer, WriterOptions

pytestmark = pytest.mark.asyncio

BY = Caller("acme", "ops", "olga", Role.OPERATOR)
SALT = bytes(range(16))
BARE = ToolSettings(tenant="acme", tool="crm.contact.get")
FULL = replace(
    BARE,
    enabled=False,
    hidden=True,
    fixed_arguments=b'{"a":18446744073709551615,"b":"\xc3\xa4\\u0000"}',
    default_arguments=b'{"c":null}',
    timeout_seconds=2.5,
    price_micros=2**63 - 1,
    limits={"day": 0, "window": 7},
)


@dataclass
class Kept:
    """A store; `entries` are those of the audit trail, None where there is none. `writer` None: in memory."""

    store: ToolSettingsStore
    entries: list[Entry] | None = None
    writer: Writer | None = None

    async def put(self, settings: ToolSettings, *fields: str) -> ToolSettings:
        kept = await self.store.put(settings, fields, BY)
        assert kept is not None
        return kept


@pytest_asyncio.fixture
async def kept(store_url: str, tmp_path: Path) -> AsyncGenerator[Kept]:
    if not store_url:
        yield Kept(MemoryToolSettingsStore(lambda: 1_000.5))
        return
    options = DatabaseOptions(locate(store_url, tmp_path), timeout_seconds=30.0, synchronous="off")
    database = await Database.open(options)
    writer = Writer((SqliteSink if options.is_sqlite else PostgresSink)(options), WriterOptions(timeout_seconds=30.0))
    await writer.open()
    told: list[Entry] = []

    def evidence(settings: ToolSettings, fields: Sequence[str], by: Caller, salt: bytes) -> Sequence[Any]:
        told.extend(settings_entries(settings, fields, by, salt))
        return ()

    yield Kept(
        SqlToolSettingsStore(database, writer, evidence, clock=lambda: 1_000.5, salts=lambda: SALT), told, writer
    )
    await writer.close()
    await database.close()


@pytest.mark.parametrize("settings", [BARE, FULL, replace(BARE, enabled=True, hidden=False, price_micros=0)])
async def test_settings_come_back_as_they_were_with_who_and_when(kept: Kept, settings: ToolSettings) -> None:
    put = await kept.put(settings, *FIELDS)
    assert put == replace(settings, revision=put.revision, update_time=1_000.5, updater="ops")
    assert put.revision > 0
    assert await kept.store.get("acme", "crm.contact.get") == put


async def test_settings_that_were_never_made_are_none(kept: Kept) -> None:
    await kept.put(FULL)
    assert await kept.store.get("acme", "crm.contact") is None
    assert await kept.store.get("other", "crm.contact.get") is None


async def test_a_change_takes_the_place_of_the_state_that_it_names(kept: Kept) -> None:
    first = await kept.put(FULL)
    second = await kept.put(replace(first, enabled=True, limits={}))
    assert (second.enabled, second.limits, second.hidden) == (True, {}, True)
    assert second.revision > first.revision
    assert await kept.store.get("acme", "crm.contact.get") == second


async def test_a_change_of_another_state_than_the_current_one_is_not_made(kept: Kept) -> None:
    first = await kept.put(BARE)
    second = await kept.put(replace(first, enabled=False))
    for stale in (BARE, first, replace(second, revision=second.revision + 1)):
        assert await kept.store.put(replace(stale, hidden=True), ("hidden",), BY) is None
    assert await kept.store.put(replace(BARE, tool="crm.other", revision=1), ("hidden",), BY) is None
    assert await kept.store.get("acme", "crm.contact.get") == second


async def test_of_changes_that_are_made_at_once_one_wins(kept: Kept) -> None:
    first = await kept.put(BARE)
    asked = [replace(first, timeout_seconds=float(number + 1)) for number in range(8)]
    answers = await asyncio.gather(*(kept.store.put(each, ("timeout_seconds",), BY) for each in asked))
    (won,) = [each for each in answers if each is not None]
    assert await kept.store.get("acme", "crm.contact.get") == won


async def test_what_changed_since_is_listed_in_its_order_each_as_it_is_now(kept: Kept) -> None:
    made = [await kept.put(replace(BARE, tool=f"crm.tool{number}")) for number in range(5)]
    again = await kept.put(replace(made[0], enabled=False))
    assert [each.tool for each in await kept.store.list(0, 10)] == [f"crm.tool{n}" for n in (1, 2, 3, 4, 0)]
    first = await kept.store.list(0, 3)
    rest = await kept.store.list(first[-1].revision, 3)
    assert [*first, *rest] == [*made[1:], again]
    assert list(await kept.store.list(again.revision, 3)) == []


async def test_every_tenant_is_listed_and_none_changes_anothers(kept: Kept) -> None:
    own = await kept.put(BARE)
    other = await kept.put(replace(BARE, tenant="other", enabled=False))
    assert list(await kept.store.list(0, 10)) == [own, other]
    assert await kept.store.get("acme", "crm.contact.get") == own


async def test_the_trail_is_told_what_is_different_and_by_whom_and_no_argument(kept: Kept) -> None:
    if kept.entries is None:
        pytest.skip("there is no audit trail in memory")
    first = await kept.put(FULL, *FIELDS)
    assert await kept.store.put(BARE, ("hidden",), BY) is None
    second = await kept.put(replace(first, enabled=None, fixed_arguments=b""), "enabled", "fixed_arguments")
    assert [(each.kind, each.time, each.tenant, each.principal, each.user) for each in kept.entries] == [
        (Kind.SETTINGS, 1_000.5, "acme", "ops", "olga")
    ] * 2
    facts = [each.facts for each in kept.entries]
    assert facts[0] == {
        "action": "updated",
        "tool": "crm.contact.get",
        "fields": " ".join(FIELDS),
        "etag": first.etag,
        "by_tenant": "acme",
        "enabled": False,
        "hidden": True,
        "fixed_arguments": payload_digest(SALT, "fixed_arguments", FULL.fixed_arguments),
        "default_arguments": payload_digest(SALT, "default_arguments", FULL.default_arguments),
        "timeout_ms": 2_500,
        "price_micros": 2**63 - 1,
        "limits": "day=0 window=7",
    }
    assert (facts[1]["enabled"], facts[1]["fixed_arguments"], facts[1]["etag"]) == (None, None, second.etag)
    assert "hidden" not in facts[1]


async def test_a_store_that_cannot_be_used_says_that_nothing_was_started(kept: Kept) -> None:
    if kept.writer is None:
        pytest.skip("memory is always there")
    await kept.writer.close()
    with pytest.raises(ToolwrightError) as caught:
        await kept.store.put(BARE, (), BY)
    assert caught.value.failure.reason is Reason.STORE_UNAVAILABLE
    assert caught.value.failure.metadata == {"outcome": "not_started"}


async def test_the_kinds_of_limits_are_those_that_rules_have() -> None:
    assert set(LIMIT_KINDS) == {kind.name.lower() for kind in LimitKind}
