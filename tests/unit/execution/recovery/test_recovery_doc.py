"""docs/recovery.md: its tool is a tool, its look-up is a look-up, its commands can be typed."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.unit.execution.corridor import row
from toolwright_server import Found, NotDone, StillUnknown
from toolwright_server.catalog.functions import declared_tool
from toolwright_server.main import app

TEXT = (Path(__file__).parents[4] / "docs" / "recovery.md").read_text()


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return found


@pytest.mark.asyncio
async def test_the_look_up_says_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "docs/recovery.md", "exec"), names)
    declared = declared_tool(names["transfer"])
    assert declared is not None
    assert declared.look_up is names["find_transfer"]
    execution = row(execution_id="0190-a")
    assert await names["find_transfer"]({"account": "a"}, execution) == NotDone()
    assert await names["find_transfer"](None, execution) == StillUnknown()
    names["SENT"]["0190-a"] = 7
    assert await names["find_transfer"]({"account": "a"}, execution) == Found(7)


@pytest.mark.parametrize("line", snippet("sh").splitlines())
def test_the_commands_can_be_typed(line: str) -> None:
    program, command, *arguments = shlex.split(line)
    assert program == "toolwright"
    known: Any = get_command(app)
    context = known.make_context(program, [command, *arguments])
    name, found, rest = known.resolve_command(context, [command, *arguments])
    assert name == "reconcile"
    found.make_context(name, rest, parent=context)
