import json
from collections.abc import Iterator

import pytest

from toolwright.v1 import common_pb2, tool_catalog_pb2
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.listing import show

from .scripted_server import Scripted, serving


@pytest.fixture
def script() -> Iterator[Scripted]:
    script = Scripted()
    for name in ("a.one", "a.two", "b.three"):
        tool = tool_catalog_pb2.Tool(name=name, version="1", effect=common_pb2.EFFECT_READ_ONLY, enabled=True)
        tool.input_schema_json = '{"type": "object"}'
        tool.timeout.seconds = 5
        script.tools.append(tool)
    with serving(script):
        yield script


def test_all_tools_are_one_json_array_over_all_pages(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    assert show(script.address, None, None, as_json=True) == Exit.OK
    listed = json.loads(capfd.readouterr().out)
    assert [tool["name"] for tool in listed] == ["a.one", "a.two", "b.three"]
    assert listed[0] == {
        "name": "a.one",
        "version": "1",
        "effect": "READ_ONLY",
        "input_schema": {"type": "object"},
        "timeout_seconds": 5.0,
        "enabled": True,
        "price_micros": 0,
    }


def test_a_category_is_asked_of_the_server(script: Scripted) -> None:
    assert show(script.address, None, "crm", as_json=True) == Exit.OK
    assert set(script.filters) == {'category = "crm"'}


def test_one_tool_is_one_json_object(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    assert show(script.address, "b.three", None, as_json=False) == Exit.OK
    assert json.loads(capfd.readouterr().out)["name"] == "b.three"


def test_an_unknown_tool_is_not_found(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    assert show(script.address, "c.four", None, as_json=False) == Exit.NOT_FOUND
    assert "TOOL_NOT_FOUND" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "category"), [("a.one", "a"), (None, 'x" AND name = "y'), ("\udcff", None)])
def test_what_cannot_be_meant_is_a_usage_error(script: Scripted, name: str | None, category: str | None) -> None:
    assert show(script.address, name, category, as_json=False) == Exit.USAGE
    assert script.filters == []


def test_no_server_is_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    assert show("127.0.0.1:1", None, None, as_json=False) == Exit.UNAVAILABLE
    assert capfd.readouterr().err.startswith("toolwright: there is no server at 127.0.0.1:1")
