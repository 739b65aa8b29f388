"""What one server changes in a PostgreSQL, another hears of from its notice alone; and what nobody knew of."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.databases import Postgres
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.catalog.settings_store import TOPIC
from toolwright_server.catalog.settings_watch import SettingsWatch
from toolwright_server.catalog.tenants import Tenants
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity import Caller, Role
from toolwright_server.identity.keys import ApiKey
from toolwright_server.keys import store as key_store
from toolwright_server.keys.freshness import Revocations
from toolwright_server.records.audit.chain import Chains
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.keys import SqlKeyStore
from toolwright_server.stores.sql.notices import PostgresNotices
from toolwright_server.stores.sql.tool_settings import SqlToolSettingsStore

from .test_sql_doubt import Line
from .written import writing

pytestmark = pytest.mark.asyncio

PATIENCE = 20.0
# Nobody looks by itself in the time of a test.
NEVER_SECONDS = 3_600.0
BY = Caller("acme", "ops", "olga", Role.OPERATOR)
SETTINGS = ToolSettings(tenant="acme", tool="letters.send", enabled=False)


@dataclass
class Server:
    """One that writes, and hears."""

    database: Database
    settings: SqlToolSettingsStore
    keys: SqlKeyStore
    notices: PostgresNotices


@pytest_asyncio.fixture
async def servers(postgres: Postgres, tmp_path: Path) -> AsyncGenerator[list[Server]]:
    """Two on one database."""
    url = locate(await asyncio.to_thread(postgres.make_database), tmp_path)
    async with AsyncExitStack() as stack:
        found: list[Server] = []
        for name in ("one", "two"):
            database = await Database.open(DatabaseOptions(url, timeout_seconds=10.0))
            stack.push_async_callback(database.close)
            writer = await stack.enter_async_context(writing(database, linker=Chains(name, 1)))
            notices = PostgresNotices(database.options)
            stack.push_async_callback(notices.close)
            stores = SqlToolSettingsStore(database, writer), SqlKeyStore(database, writer)
            found.append(Server(database, *stores, notices))
        yield found


class Heard(Tenants):
    """Says when something was adopted."""

    __slots__ = ("changed",)

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def adopt(self, changed: Iterable[ToolSettings]) -> None:
        super().adopt(changed)
        self.changed.set()

    async def knows(self, settings: ToolSettings) -> None:
        """Wait until these settings hold."""
        async with asyncio.timeout(PATIENCE):
            while self.of(settings.tenant, settings.tool) != settings:
                self.changed.clear()
                await self.changed.wait()


async def test_a_change_is_known_elsewhere_without_looking(servers: list[Server]) -> None:
    one, two = servers
    first = await one.settings.put(SETTINGS, ("enabled",), BY)
    assert first is not None
    tenants = Heard()
    watch = SettingsWatch(two.settings, tenants)
    two.notices.listen(TOPIC, watch.freshness.wake)
    watching = asyncio.create_task(watch.freshness.watch(NEVER_SECONDS))
    two.notices.start()
    await tenants.knows(first)
    second = await one.settings.put(replace(first, hidden=True), ("hidden",), BY)
    assert second is not None
    await tenants.knows(second)
    watching.cancel()


async def test_a_revocation_is_known_elsewhere_without_looking(servers: list[Server]) -> None:
    one, two = servers
    key = ApiKey(
        key_id="0" * 16,
        tenant="acme",
        principal="planner",
        user="bob",
        role=Role.AGENT,
        acts_for=frozenset(),
        scopes=("*",),
        secret_hash=bytes(32),
        create_time=1_000.0,
    )
    await one.keys.add(key, BY)
    forgotten: asyncio.Queue[str] = asyncio.Queue()
    revocations = Revocations(two.keys, forgotten.put_nowait, lambda: None, lambda: 2_000.0)
    woken = asyncio.Event()

    def wake() -> None:
        woken.set()
        revocations.freshness.wake()

    two.notices.listen(key_store.TOPIC, wake)
    watching = asyncio.create_task(revocations.freshness.watch(NEVER_SECONDS))
    two.notices.start()
    async with asyncio.timeout(PATIENCE):
        await woken.wait()
        await one.keys.revoke(key.key_id, 2_000.0, BY)
        assert await forgotten.get() == key.key_id
    watching.cancel()


@pytest.mark.parametrize("came_through", [True, False])
async def test_a_change_of_which_nobody_knows_whether_it_was_kept_is_said_to_be_so_and_learned(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch, came_through: bool
) -> None:
    one, _ = servers
    line = Line(monkeypatch)
    assert await one.settings.put(replace(SETTINGS, tool="letters.other"), ("enabled",), BY) is not None
    line.cut_next(came_through=came_through)
    with pytest.raises(ToolwrightError) as caught:
        await one.settings.put(SETTINGS, ("enabled",), BY)
    assert caught.value.failure.reason is Reason.STORE_UNAVAILABLE
    assert caught.value.failure.metadata == {"outcome": "unknown"}
    tenants = Tenants()
    await SettingsWatch(one.settings, tenants).load()
    assert (tenants.of("acme", "letters.send") is not None) is came_through
