import pytest

from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.model import DeclarationError, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.errors import Reason, ToolwrightError


def declared(name: str, version: str = "1") -> Tool:
    async def nothing() -> None: ...

    found = declared_tool(tool(name, version=version)(nothing))
    assert found is not None
    return found


def refusal(catalog: Catalog, name: str, version: str = "") -> str:
    with pytest.raises(ToolwrightError) as caught:
        catalog.resolve(name, version)
    assert caught.value.failure.reason is Reason.TOOL_NOT_FOUND
    return str(caught.value)


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["2.9", "2.10"], "2.10"),
        (["2.10", "2.9"], "2.10"),
        (["10", "9", "9.9.9"], "10"),
        (["1.2.3", "1.2", "1"], "1.2.3"),
        (["1", "1.0.1", "1.0"], "1.0.1"),
    ],
)
def test_no_version_means_the_newest(versions: list[str], newest: str) -> None:
    catalog = Catalog(declared("a.b", version) for version in versions)
    assert catalog.resolve("a.b").version == newest
    assert [tool.version for tool in catalog.newest()] == [newest]


def test_an_older_version_is_there_when_it_is_asked_for() -> None:
    catalog = Catalog([declared("a.b", "1"), declared("a.b", "2")])
    assert catalog.resolve("a.b", "1").version == "1"
    assert {tool.version for tool in catalog.all()} == {"1", "2"}


def test_an_unknown_name_brings_near_ones() -> None:
    catalog = Catalog([declared("crm.contact.create"), declared("crm.contact.update"), declared("email.send")])
    said = refusal(catalog, "crm.contact.craete")
    assert "did you mean crm.contact.create" in said
    assert "email.send" not in said


def test_a_name_like_no_other_brings_none() -> None:
    assert refusal(Catalog([declared("a.b")]), "zzzzzz") == "there is no tool 'zzzzzz'"
    assert refusal(Catalog([]), "") == "there is no tool ''"


def test_an_unknown_version_brings_those_that_exist() -> None:
    catalog = Catalog([declared("a.b", "1"), declared("a.b", "2.1")])
    assert refusal(catalog, "a.b", "3") == "tool 'a.b' has no version '3'; it has 1, 2.1"


def test_what_a_caller_writes_is_cut_in_the_refusal() -> None:
    catalog = Catalog([declared("a.b")])
    assert len(refusal(catalog, "x" * 100_000)) < 200
    assert len(refusal(catalog, "a.b", "9" * 100_000)) < 200


def test_a_tool_that_is_declared_twice_is_refused_by_name() -> None:
    with pytest.raises(DeclarationError, match=r"tool 'a\.b' version 1 is declared twice"):
        Catalog([declared("a.b"), declared("a.b")])


def test_tools_are_listed_by_name() -> None:
    catalog = Catalog([declared("b.a"), declared("a.b"), declared("a.a", "2"), declared("a.a", "1")])
    assert [(tool.name, tool.version) for tool in catalog.newest()] == [("a.a", "2"), ("a.b", "1"), ("b.a", "1")]
