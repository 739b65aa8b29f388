"""What a tenant's settings make of a tool, and of the arguments of its calls."""

from typing import Any

import pytest

from toolwright_server.catalog.model import Terms, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.tenants import Tenants
from toolwright_server.catalog.terms import agree, on_terms
from toolwright_server.errors import Reason, ToolwrightError

from .setting import catalog, made, other, settings


def offered(**fields: Any) -> tuple[Tool, Terms]:
    """`letters.send` in a tenant with these settings."""
    found = on_terms(catalog().resolve("letters.send"), settings(**fields))
    assert found.terms is not None
    return found, found.terms


def given(arguments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What the tool gets when `arguments` are sent."""
    agree(offered(**fields)[0], arguments)
    return arguments


def refused(arguments: dict[str, Any], **fields: Any) -> Any:
    with pytest.raises(ToolwrightError) as caught:
        given(arguments, **fields)
    assert caught.value.failure.metadata["outcome"] == "not_started"
    return caught.value.failure


@pytest.mark.parametrize("fields", [{}, {"enabled": True}, {"hidden": False}])
def test_settings_that_change_nothing_leave_the_tool_itself(fields: dict[str, Any]) -> None:
    tool = catalog().resolve("letters.send")
    assert on_terms(tool, settings(**fields)) is tool


def test_timeout_price_and_limits_are_the_tenants() -> None:
    tool, terms = offered(timeout_seconds=2.5, price_micros=7, limits={"day": 3})
    assert (tool.timeout_seconds, terms.price_micros, terms.limits) == (2.5, 7, {"day": 3})
    assert offered(price_micros=0)[0].timeout_seconds == 7.0
    assert not terms.completes
    assert terms.listed_schema is tool.input_schema


def test_a_tool_that_is_turned_off_lets_nobody_in() -> None:
    assert refused({"to": "ann"}, enabled=False).reason is Reason.TOOL_DISABLED


def test_defaults_fill_what_is_absent_and_nothing_else() -> None:
    defaults = b'{"subject":"hello","tags":["a"]}'
    assert given({"to": "ann"}, default_arguments=defaults) == {"to": "ann", "subject": "hello", "tags": ["a"]}
    sent = {"to": "ann", "subject": "", "tags": None}
    assert given(dict(sent), default_arguments=defaults) == sent


def test_fixed_arguments_are_always_given() -> None:
    fixed = b'{"retries":1,"tags":["a"]}'
    assert given({"to": "ann"}, fixed_arguments=fixed) == {"to": "ann", "retries": 1, "tags": ["a"]}
    assert given({"to": "ann", "tags": ["a"], "retries": 1}, fixed_arguments=fixed)["retries"] == 1


@pytest.mark.parametrize("sent", [2, 1.0, True, None, "1", [1]])
def test_another_value_than_the_fixed_one_is_refused_by_name_and_not_told_which_it_is(sent: Any) -> None:
    failure = refused({"to": "ann", "retries": sent}, fixed_arguments=b'{"key":"k9","retries":1}')
    assert failure.reason is Reason.INVALID_ARGUMENTS
    assert [each.field for each in failure.violations] == ["retries"]
    assert "k9" not in repr(failure)


def test_every_call_gets_values_of_its_own() -> None:
    tool, _ = offered(fixed_arguments=b'{"tags":["a"]}', default_arguments=b'{"subject":"s"}')
    first: dict[str, Any] = {"to": "ann"}
    agree(tool, first)
    first["tags"].append("b")
    second: dict[str, Any] = {"to": "ann"}
    agree(tool, second)
    assert second["tags"] == ["a"]


def test_fixed_arguments_are_not_in_the_schema_that_callers_see_and_defaults_are_not_required() -> None:
    tool, terms = offered(fixed_arguments=b'{"to":"ann"}', default_arguments=b'{"subject":"hello","key":"k9"}')
    shown = terms.listed_schema.document
    assert "to" not in shown["properties"]
    assert shown["properties"]["subject"]["default"] == "hello"
    assert "required" not in shown
    assert "k9" not in terms.listed_schema.json
    assert "to" in tool.input_schema.document["required"]
    assert "to" in catalog().resolve("letters.send").input_schema.document["properties"]


def test_settings_that_no_longer_fit_a_version_close_it_instead_of_leaving_out_what_is_fixed() -> None:
    tool = on_terms(made(other, "letters.send", "3"), settings(fixed_arguments=b'{"retries":1}'))
    with pytest.raises(ToolwrightError) as caught:
        agree(tool, {})
    assert caught.value.failure.reason is Reason.INVALID_STATE
    assert "version 3" in str(caught.value)


def test_an_older_state_never_replaces_a_newer_one() -> None:
    tenants = Tenants()
    tenants.adopt([settings(5, hidden=True)])
    tenants.adopt([settings(4, hidden=False), settings(5, hidden=False)])
    assert tenants.hides("acme", "letters.send")
    tenants.adopt([settings(6)])
    assert not tenants.hides("acme", "letters.send")


def test_a_change_holds_from_the_next_call_on() -> None:
    found = catalog(versions=True)
    for revision, timeout in ((1, 1.0), (2, 2.0)):
        found.tenants.adopt([settings(revision, timeout_seconds=timeout)])
        for version in ("", "1", "2"):
            assert found.resolve("letters.send", version, tenant="acme").timeout_seconds == timeout
    assert found.resolve("letters.send", "1").timeout_seconds == 7.0


def test_what_was_computed_is_kept_for_as_many_as_fit() -> None:
    tenants, tool = Tenants(views_limit=2), catalog().resolve("letters.send")
    three = [settings(tenant=name, price_micros=1) for name in ("a", "b", "c")]
    views = [tenants.view(tool, each) for each in three]
    assert tenants.view(tool, three[2]) is views[2]
    assert tenants.view(tool, three[1]) is views[1]
    assert tenants.view(tool, three[0]) is not views[0]


def names(found: Catalog, tenant: str) -> list[str]:
    return [tool.name for tool in found.newest(tenant)]


def test_a_hidden_tool_is_as_if_it_were_not_there_for_its_tenant_alone() -> None:
    found = catalog()
    found.tenants.adopt([settings(hidden=True)])
    assert names(found, "acme") == ["letters.other"]
    assert names(found, "globex") == names(found, "") == ["letters.other", "letters.send"]
    said: set[str] = set()
    for name, version in (("letters.send", ""), ("letters.send", "7"), ("letters.sent", "")):
        with pytest.raises(ToolwrightError) as caught:
            found.resolve(name, version, tenant="acme")
        assert caught.value.failure.reason is Reason.TOOL_NOT_FOUND
        said.add(str(caught.value).replace(name, "it"))
    # As for any name that nobody has ever used.
    assert said == {"there is no tool 'it'; did you mean letters.other?"}


def test_a_tool_that_is_both_off_and_hidden_is_hidden() -> None:
    found = catalog()
    found.tenants.adopt([settings(hidden=True, enabled=False)])
    with pytest.raises(ToolwrightError) as caught:
        found.resolve("letters.send", tenant="acme")
    assert caught.value.failure.reason is Reason.TOOL_NOT_FOUND
