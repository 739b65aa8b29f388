"""Who may change tool settings, which can be right, and what a change does."""

from typing import Any

import pytest

from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.catalog.settings_registry import ARGUMENTS_LIMIT, SettingsChange, ToolSettingsRegistry
from toolwright_server.catalog.settings_watch import SettingsWatch
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution import canonical
from toolwright_server.identity import ANONYMOUS, Caller, Role
from toolwright_server.stores.memory.tool_settings import MemoryToolSettingsStore

from .setting import catalog

pytestmark = pytest.mark.asyncio

OPERATOR = Caller("acme", "ops", "olga", Role.OPERATOR)
AGENT = Caller("acme", "planner", "bob")


class Office:
    """A registry with its catalogue and store."""

    def __init__(self) -> None:
        self.catalog = catalog(versions=True)
        self.store = MemoryToolSettingsStore(lambda: 5.0)
        self.registry = ToolSettingsRegistry(self.catalog, self.store, 60.0, canonical.parse)

    async def set(
        self, by: Caller = OPERATOR, *, tenant: str = "", tool: str = "letters.send", etag: str = "", **values: Any
    ) -> ToolSettings:
        return await self.registry.update(SettingsChange(tenant=tenant, tool=tool, etag=etag, values=values), by)

    async def refused(self, *by: Caller, **asked: Any) -> Any:
        with pytest.raises(ToolwrightError) as caught:
            await self.set(*by, **asked)
        return caught.value.failure


@pytest.fixture
def office() -> Office:
    return Office()


async def test_a_change_holds_on_this_server_when_it_is_answered(office: Office) -> None:
    kept = await office.set(timeout_seconds=2.0, default_arguments='{"subject": "b"}')
    assert (kept.tenant, kept.updater, kept.update_time) == ("acme", "ops", 5.0)
    assert kept.default_arguments == b'{"subject":"b"}'
    assert office.catalog.resolve("letters.send", tenant="acme").timeout_seconds == 2.0
    assert office.catalog.resolve("letters.send", tenant="globex").timeout_seconds is None
    assert await office.registry.get("", "letters.send", OPERATOR) == kept


async def test_what_is_not_named_stays_and_none_clears(office: Office) -> None:
    await office.set(timeout_seconds=2.0, price_micros=5, limits={"day": 1}, fixed_arguments='{"to": "ann"}')
    kept = await office.set(timeout_seconds=None, fixed_arguments=None, limits=None)
    assert (kept.timeout_seconds, kept.price_micros, kept.limits, kept.fixed_arguments) == (None, 5, {}, b"")


async def test_an_etag_lets_a_change_through_only_while_it_is_the_current_one(office: Office) -> None:
    never = await office.registry.get("", "letters.send", OPERATOR)
    first = await office.set(etag=never.etag, enabled=False)
    failure = await office.refused(etag=never.etag, enabled=True)
    assert failure.reason is Reason.ETAG_MISMATCH
    assert failure.metadata == {"etag": first.etag, "outcome": "not_started"}
    second = await office.set(etag=first.etag, enabled=True)
    assert second.etag not in {never.etag, first.etag}


async def test_a_change_that_changes_nothing_keeps_the_etag(office: Office) -> None:
    first = await office.set(enabled=False)
    assert await office.set(enabled=False, hidden=None) == first


async def test_without_an_etag_a_change_that_was_overtaken_is_made_to_what_is_there_then(office: Office) -> None:
    original = office.store.get

    async def overtaken(tenant: str, tool: str) -> ToolSettings | None:
        found = await original(tenant, tool)
        if found is None:
            office.store.get = original
            await office.set(price_micros=9)
        return found

    office.store.get = overtaken
    kept = await office.set(enabled=False)
    assert (kept.enabled, kept.price_micros) == (False, 9)


async def test_operators_reach_their_tenant_admins_all_and_agents_none(office: Office) -> None:
    assert (await office.refused(AGENT, enabled=False)).reason is Reason.FORBIDDEN
    with pytest.raises(ToolwrightError) as caught:
        await office.registry.get("", "letters.send", AGENT)
    assert caught.value.failure.reason is Reason.FORBIDDEN
    assert (await office.refused(OPERATOR, tenant="globex", enabled=False)).reason is Reason.FORBIDDEN
    with pytest.raises(ToolwrightError) as caught:
        await office.registry.get("globex", "letters.send", OPERATOR)
    assert caught.value.failure.reason is Reason.FORBIDDEN
    assert (await office.set(OPERATOR, tenant="acme", enabled=False)).tenant == "acme"
    assert (await office.set(ANONYMOUS, tenant="globex", enabled=False)).tenant == "globex"


async def test_a_hidden_tool_can_be_unhidden(office: Office) -> None:
    await office.set(hidden=True)
    assert (await office.registry.get("", "letters.send", OPERATOR)).hidden
    await office.set(hidden=False)
    assert office.catalog.resolve("letters.send", tenant="acme")


@pytest.mark.parametrize("tool", ["letters.sent", "letters.*", "*"])
async def test_only_a_tool_by_its_exact_name_has_settings(office: Office, tool: str) -> None:
    assert (await office.refused(tool=tool, enabled=False)).reason is Reason.TOOL_NOT_FOUND


async def test_a_tool_outside_the_scopes_has_no_settings_for_the_caller(office: Office) -> None:
    narrow = Caller("acme", "ops", "olga", Role.OPERATOR, scopes=("crm.*",))
    assert (await office.refused(narrow, enabled=False)).reason is Reason.TOOL_NOT_FOUND


@pytest.mark.parametrize(
    ("asked", "field", "what"),
    [
        ({"tool": ""}, "settings.tool", "is required"),
        ({"tenant": "*"}, "settings.tenant_id", "printable"),
        ({}, "update_mask", "nothing to change"),
        ({"timeout_seconds": 0.0}, "settings.timeout", "at most 60 s"),
        ({"timeout_seconds": 60.1}, "settings.timeout", "at most 60 s"),
        ({"timeout_seconds": -1.0}, "settings.timeout", "at least 0.001 s"),
        ({"timeout_seconds": 1e-9}, "settings.timeout", "at least 0.001 s"),
        ({"price_micros": -1}, "settings.price_micros", "must be 0 to 10"),
        ({"price_micros": 2**63 - 1}, "settings.price_micros", "must be 0 to 10"),
        ({"limits": {"week": 1}}, "settings.limits[week]", "window, day, month, running"),
        ({"limits": {"day": -1}}, "settings.limits[day]", "must be 0 to"),
        ({"fixed_arguments": "[1]"}, "settings.fixed_arguments_json", "must be a JSON object"),
        ({"fixed_arguments": "{"}, "settings.fixed_arguments_json", "is not JSON"),
        ({"default_arguments": '{"to": 1e400}'}, "settings.default_arguments_json", "is not JSON"),
        ({"default_arguments": '{"retries": 18446744073709551616}'}, "settings.default_arguments_json", "2^64"),
        ({"fixed_arguments": '{"to": "' + "x" * ARGUMENTS_LIMIT + '"}'}, "settings.fixed_arguments_json", "bytes"),
        ({"fixed_arguments": '{"subject": 1}'}, "settings.fixed_arguments_json.subject", "string"),
        ({"fixed_arguments": '{"nothing": 1}'}, "settings.fixed_arguments_json.nothing", "is not known (version 1)"),
        # Only the second version knows it, only the first one, and both but by another name.
        ({"fixed_arguments": '{"urgent": true}'}, "settings.fixed_arguments_json.urgent", "is not known (version 1)"),
        ({"default_arguments": '{"retries": 1}'}, "settings.default_arguments_json.retries", "known (version 2)"),
    ],
)
async def test_what_cannot_be_right_is_refused_by_field(
    office: Office, asked: dict[str, Any], field: str, what: str
) -> None:
    failure = await office.refused(**asked)
    assert failure.reason is Reason.INVALID_ARGUMENTS
    assert failure.violations[0].field == field
    assert what in failure.violations[0].description
    assert await office.store.get("acme", "letters.send") is None


async def test_an_argument_is_fixed_or_has_a_default_not_both(office: Office) -> None:
    await office.set(fixed_arguments='{"to": "ann"}')
    failure = await office.refused(default_arguments='{"to": "bob"}')
    assert [each.field for each in failure.violations] == ["settings.default_arguments_json.to"]
    await office.set(fixed_arguments=None, default_arguments='{"to": "bob"}')


async def test_another_server_adopts_what_has_changed_since_it_looked(office: Office) -> None:
    await office.set(enabled=False)
    elsewhere = catalog(versions=True)
    watch = SettingsWatch(office.store, elsewhere.tenants)
    await watch.load()
    assert len(elsewhere.tenants) == 1
    await office.set(hidden=True)
    await office.set(tool="letters.other", hidden=True)
    await watch.load()
    assert elsewhere.newest("acme") == []


async def test_more_settings_than_a_page_are_all_adopted(office: Office) -> None:
    for number in range(1_001):
        await office.set(ANONYMOUS, tenant=f"tenant{number}", enabled=False)
    elsewhere = catalog()
    await SettingsWatch(office.store, elsewhere.tenants).load()
    assert len(elsewhere.tenants) == 1_001
