import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity import ANONYMOUS, Caller, Role
from toolwright_server.identity.caller import UNIDENTIFIED
from toolwright_server.identity.names import covers, is_name, is_scope


def caller(**fields: object) -> Caller:
    return Caller(**{"tenant": "acme", "principal": "p", "user": "bob", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ("crm.*", ["crm.contact.get", "crm.x"], ["crmx.get", "crm", "crm_x.get", "xcrm.get", "CRM.x"]),
        ("crm.contact.*", ["crm.contact.get"], ["crm.contacts.get", "crm.deal.get", "crm.contact"]),
        ("crm.contact.get", ["crm.contact.get"], ["crm.contact.get2", "crm.contact.get.all", "crm.contact.ge"]),
        ("*", ["crm.contact.get", "x"], []),
    ],
)
def test_a_scope_covers_its_tools_and_no_look_alike(scope: str, inside: list[str], outside: list[str]) -> None:
    someone = caller(scopes=(scope,))
    assert [tool for tool in inside + outside if someone.may_call(tool)] == inside


def test_a_scope_covers_narrower_scopes_only() -> None:
    assert covers("crm.*", "crm.contact.*")
    assert not covers("crm.contact.*", "crm.*")
    assert not covers("crm.*", "*")
    assert not covers("crm.*", "crmx.*")


@pytest.mark.parametrize("scope", ["", "crm*", "*.get", "crm.*.get", "crm..x", ".crm", "crm.", "crm.* ", "a" * 200, 3])
def test_what_only_looks_like_a_scope_is_none(scope: object) -> None:
    assert not is_scope(scope)


@pytest.mark.parametrize("name", ["", "*", " bob", "bob ", "bo\nb", "bo\x00b", "x" * 129, None, 3])
def test_some_texts_are_nobodys_name(name: object) -> None:
    assert not is_name(name)


def test_names_may_be_addresses_and_ids() -> None:
    assert all(is_name(name) for name in ("bob@example.org", "auth0|5f", "Бob", "a b", "3f6c-…"))


def test_a_caller_acts_for_those_it_was_given_and_sees_theirs() -> None:
    someone = caller(acts_for=frozenset({"ann"}))
    acting = someone.acting_for("ann")
    assert (acting.user, acting.principal, acting.tenant) == ("ann", "p", "acme")
    assert acting.sees("acme", "bob")
    assert someone.sees("acme", "ann")
    assert not someone.sees("acme", "eve")
    assert not someone.sees("other", "ann")
    assert someone.acting_for("") is someone
    assert someone.acting_for("bob") is someone


@pytest.mark.parametrize("user", ["eve", "*"])
def test_nobody_acts_for_others(user: str) -> None:
    with pytest.raises(ToolwrightError) as caught:
        caller(acts_for=frozenset({"ann"})).acting_for(user)
    assert caught.value.failure.reason is Reason.FORBIDDEN
    assert caught.value.failure.metadata["outcome"] == "not_started"


def test_who_acts_for_everybody_cannot_become_everybody() -> None:
    with pytest.raises(ToolwrightError):
        ANONYMOUS.acting_for("*")
    assert ANONYMOUS.acting_for("ann").user == "ann"


@pytest.mark.parametrize(
    ("role", "own_tenant", "other_tenant"),
    [(Role.AGENT, False, False), (Role.OPERATOR, True, False), (Role.ADMIN, True, True)],
)
def test_operators_see_their_tenant_and_admins_all(role: Role, own_tenant: bool, other_tenant: bool) -> None:
    someone = caller(role=role)
    assert someone.sees("acme", "eve") is own_tenant
    assert someone.sees("other", "eve") is other_tenant


def test_a_role_includes_those_before_it() -> None:
    caller(role=Role.ADMIN).require(Role.OPERATOR)
    with pytest.raises(ToolwrightError, match="needs the role operator"):
        caller().require(Role.OPERATOR)


def test_who_is_not_identified_may_do_nothing() -> None:
    assert not UNIDENTIFIED.may_call("crm.x")
    assert not UNIDENTIFIED.sees("acme", "bob")
