"""Who may make, see and end which keys."""

from typing import Any

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity import ANONYMOUS, ANY_USER, Caller, Role
from toolwright_server.identity.keys import KeyTexts
from toolwright_server.keys.registry import KeyRegistry, KeyRequest
from toolwright_server.stores.memory.keys import MemoryKeyStore

pytestmark = pytest.mark.asyncio

TEXTS = KeyTexts(b"p" * 32)
ADMIN = ANONYMOUS
OPERATOR = Caller("acme", "ops", "olga", Role.OPERATOR)
AGENT = Caller("acme", "planner", "bob")


class Office:
    """A registry with its store and what it said was revoked."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.revoked: list[str] = []
        self.registry = KeyRegistry(MemoryKeyStore(), TEXTS, self.revoked.append, lambda: self.now)

    async def create(self, by: Caller = ADMIN, **fields: Any) -> Any:
        wanted: dict[str, Any] = {"user": "bob"} | fields
        return (await self.registry.create(KeyRequest(**wanted), by))[0]


@pytest.fixture
def office() -> Office:
    return Office()


def reason(caught: pytest.ExceptionInfo[ToolwrightError]) -> Reason:
    return caught.value.failure.reason


async def test_what_is_not_said_means_the_least_surprising(office: Office) -> None:
    key, text = await office.registry.create(KeyRequest(user="bob"), OPERATOR)
    assert (key.tenant, key.principal, key.user, key.role, key.scopes) == ("acme", "bob", "bob", Role.AGENT, ("*",))
    assert (key.create_time, key.expire_time, key.revoke_time) == (1_000.0, None, None)
    assert TEXTS.opens(key, text)


async def test_all_that_is_said_is_kept(office: Office) -> None:
    said: dict[str, Any] = {"tenant": "other", "principal": "p", "user": "u", "role": Role.OPERATOR, "label": "l"}
    key = await office.create(**said, acts_for=("ann", "*"), scopes=("crm.*", "crm.*", "x.y"), lives=60.0)
    assert {name: getattr(key, name) for name in said} == said
    assert key.acts_for == {"ann", ANY_USER}
    assert key.scopes == ("crm.*", "x.y")
    assert key.expire_time == 1_060.0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user": ""}, "user_id"),
        ({"user": "*"}, "user_id"),
        ({"user": "x" * 129}, "user_id"),
        ({"tenant": "a\nb"}, "tenant_id"),
        ({"principal": "*"}, "principal"),
        ({"acts_for": ("ann", "")}, "acts_for[1]"),
        ({"acts_for": tuple("u" * 101)}, "acts_for"),
        ({"scopes": ("crm.*", "crm*")}, "scopes[1]"),
        ({"scopes": tuple(f"a{number}.*" for number in range(101))}, "scopes"),
        ({"label": "x" * 257}, "label"),
        ({"label": "a\x1b[2J"}, "label"),
    ],
)
async def test_a_key_that_cannot_be_meant_is_refused_by_field(
    office: Office, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(ToolwrightError) as caught:
        await office.create(**fields)
    assert reason(caught) is Reason.INVALID_ARGUMENTS
    assert caught.value.failure.violations[0].field == field


@pytest.mark.parametrize(
    ("by", "fields"),
    [
        (AGENT, {}),
        (OPERATOR, {"role": Role.ADMIN}),
        (OPERATOR, {"tenant": "other"}),
        (Caller("acme", "ops", "olga", Role.OPERATOR, scopes=("crm.*",)), {}),
        (Caller("acme", "ops", "olga", Role.OPERATOR, scopes=("crm.*",)), {"scopes": ("crm.x", "crmx.y")}),
        (Caller("acme", "ops", "olga", Role.OPERATOR, scopes=("crm.contact.*",)), {"scopes": ("crm.*",)}),
        (Caller("acme", "root", "root", Role.ADMIN, scopes=("crm.*",)), {"scopes": ("knowledge.search",)}),
    ],
)
async def test_nobody_gives_more_than_it_has(office: Office, by: Caller, fields: dict[str, Any]) -> None:
    with pytest.raises(ToolwrightError) as caught:
        await office.create(by, **fields)
    assert reason(caught) is Reason.FORBIDDEN
    assert not await office.registry.list("", "", 10, ADMIN)


async def test_an_operator_gives_what_it_has(office: Office) -> None:
    narrow = Caller("acme", "ops", "olga", Role.OPERATOR, scopes=("crm.*",))
    key = await office.create(narrow, role=Role.OPERATOR, scopes=("crm.contact.*", "crm.*"))
    assert key.role is Role.OPERATOR


async def test_operators_see_the_keys_of_their_tenant_and_admins_all(office: Office) -> None:
    ours = await office.create(tenant="acme")
    theirs = await office.create(tenant="other")
    assert {key.key_id for key in await office.registry.list("", "", 10, ADMIN)} == {ours.key_id, theirs.key_id}
    assert [key.key_id for key in await office.registry.list("other", "", 10, ADMIN)] == [theirs.key_id]
    for tenant in ("", "acme"):
        assert [key.key_id for key in await office.registry.list(tenant, "", 10, OPERATOR)] == [ours.key_id]
    for tenant, by in (("other", OPERATOR), ("", AGENT)):
        with pytest.raises(ToolwrightError) as caught:
            await office.registry.list(tenant, "", 10, by)
        assert reason(caught) is Reason.FORBIDDEN


async def test_a_revoked_key_stays_as_it_was_revoked_first(office: Office) -> None:
    key = await office.create(tenant="acme")
    assert (await office.registry.revoke(key.key_id, OPERATOR)).revoke_time == 1_000.0
    office.now += 5
    assert (await office.registry.revoke(key.key_id, OPERATOR)).revoke_time == 1_000.0
    assert office.revoked == [key.key_id, key.key_id]


@pytest.mark.parametrize("key_id", ["", "nope", "0" * 16, "../etc"])
async def test_a_key_that_is_not_there_is_not_found(office: Office, key_id: str) -> None:
    with pytest.raises(ToolwrightError) as caught:
        await office.registry.revoke(key_id, ADMIN)
    assert reason(caught) is Reason.RESOURCE_NOT_FOUND


async def test_another_tenants_key_is_as_if_it_were_not_there(office: Office) -> None:
    theirs = await office.create(tenant="other")
    with pytest.raises(ToolwrightError) as caught:
        await office.registry.revoke(theirs.key_id, OPERATOR)
    assert reason(caught) is Reason.RESOURCE_NOT_FOUND
    assert office.revoked == []


async def test_an_operator_does_not_end_an_admins_key(office: Office) -> None:
    key = await office.create(tenant="acme", role=Role.ADMIN)
    with pytest.raises(ToolwrightError, match="needs the role admin"):
        await office.registry.revoke(key.key_id, OPERATOR)
    with pytest.raises(ToolwrightError, match="needs the role operator"):
        await office.registry.revoke(key.key_id, AGENT)
