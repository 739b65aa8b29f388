"""Every snippet of docs/client.md runs as it stands, one after the other, against the scripted server."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client.background import background

from .client_server import Context, Scripted, execution, started

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "client.md"
SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.asyncio
async def test_every_snippet_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    async def described(request: Any, context: Context) -> Any:
        return tool_execution_pb2.GetExecutionResponse(execution=execution("e-1", common_pb2.STATE_RUNNING))

    script = Scripted(effects={"crm.contact.create": common_pb2.EFFECT_SIDE_EFFECT})
    script.get.append(described)
    snippets = SNIPPET.findall(PAGE.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    # On another loop than the snippets: the blocking ones would hold it.
    server, target = background().run(started(script))
    for number, snippet in enumerate(snippets):
        source = snippet.replace("127.0.0.1:50051", target)
        code = compile(source, f"client.md snippet {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)
        if inspect.isawaitable(running):
            await running
    await names["client"].aclose()
    background().run(server.stop(0))
    assert len(snippets) >= 7
    assert "crm.contact.create" in capsys.readouterr().out
