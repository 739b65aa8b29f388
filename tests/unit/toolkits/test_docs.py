"""What the documents and examples on tools say is true of the code."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from toolwright_server import CircuitPolicy, ToolError
from toolwright_server.catalog.discovery import load
from toolwright_server.catalog.functions import FunctionTarget
from toolwright_server.toolkits import crm, diagnostics, knowledge
from toolwright_server.toolkits.crm.kit import CrmSettings
from toolwright_server.toolkits.knowledge.kit import KnowledgeSettings

from .calls import write

ROOT = Path(__file__).parents[3]
TOOLKITS = (ROOT / "docs" / "toolkits.md").read_text()
WRITING = (ROOT / "docs" / "writing-tools.md").read_text()
KITS = {"crm": crm.toolkit, "diagnostics": diagnostics.toolkit, "knowledge": knowledge.toolkit}
CIRCUITS = (ROOT / "docs" / "circuits.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", WRITING + CIRCUITS, re.DOTALL)


@pytest.mark.parametrize("kit", KITS)
def test_every_tool_is_in_the_document_with_its_effect(kit: str) -> None:
    rows = [line for line in TOOLKITS.splitlines() if line.startswith(f"| `{kit}.")]
    named = {name: row for row in rows for name in re.findall(rf"`({kit}[a-z_.]+)`", row.split("|")[1])}
    assert set(named) == {tool.name for tool in KITS[kit].tools}
    for tool in KITS[kit].tools:
        if kit != "diagnostics":
            assert named[tool.name].split("|")[2].strip() == tool.effect.name


def test_every_setting_is_in_the_document_with_its_default() -> None:
    for kit, model in (("crm", CrmSettings), ("knowledge", KnowledgeSettings)):
        table = TOOLKITS.split(f"| `[toolkit.{kit}]` |")[1].split("\n\n")[0]
        written = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))
        assert set(written) == set(model.model_fields)
        for name, default in model().model_dump().items():
            assert written[name] == shown(default)


def shown(default: Any) -> str:
    if isinstance(default, list):
        return ", ".join(f"`{item}`" for item in cast("list[str]", default)) or "none"
    return f"{default:.10g}"


def test_every_field_of_a_circuit_is_in_the_document_with_its_default() -> None:
    written = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", CIRCUITS.split("| `CircuitPolicy` |")[1], re.MULTILINE))
    assert written == {name: repr(value) for name, value in asdict(CircuitPolicy()).items()}


def test_every_reason_is_in_the_document() -> None:
    source = "".join(path.read_text() for kit in ("crm", "knowledge") for path in folder(kit).glob("*.py"))
    reasons = set(re.findall(r'reason="([A-Z_]+)"', source))
    assert len(reasons) > 10
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in TOOLKITS] == []


def folder(kit: str) -> Path:
    return ROOT / "server" / "toolwright_server" / "toolkits" / kit


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(1, len(SNIPPETS) + 1))
def test_every_snippet_declares_tools(snippet: str, tmp_path: Path) -> None:
    write(tmp_path, {"snippet.py": snippet})
    loaded = load(["crm"], [str(tmp_path / "snippet.py")], {}, tmp_path, loopback=True)
    assert len(loaded.tools) == len(crm.toolkit.tools) + 1


def example(tmp_path: Path) -> dict[str, Callable[..., Any]]:
    tools = load(["crm"], [str(ROOT / "examples" / "my_tools.py")], {}, tmp_path, loopback=True).tools
    return {tool.name: tool.target.function for tool in tools if isinstance(tool.target, FunctionTarget)}


@pytest.mark.asyncio
async def test_the_example_does_what_it_says(tmp_path: Path) -> None:
    functions = example(tmp_path)
    assert {name for name in functions if not name.startswith("crm.")} == {
        "text.slug",
        "text.stretch",
        "text.greet",
        "shop.order",
    }
    slug, order = functions["text.slug"], functions["shop.order"]
    assert await slug("Hello, World!") == "hello-world"
    with pytest.raises(ToolError, match="0 pieces of coffee are left"):
        await order("coffee")
    assert (await order("tea", 2)).left == 10


def test_the_settings_of_make_run_name_folders_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = tomllib.loads((ROOT / "examples" / "local.toml").read_text())
    load([], [], settings["toolkit"], tmp_path, loopback=True)
    assert knowledge.toolkit.settings.sources
