"""A secret in a field that is marked sensitive is nowhere but with its caller and its tool.

Each way on which a secret is sent has a secret of its own, so that what leaks is named.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2

from tests.live import TRACED, LiveServer, execute_request, live_server, stubs
from tests.refused import refused
from toolwright.v1 import tool_execution_pb2

TOOLS = Path(__file__).parent / "secret_tools.py"
COMMAND = [sys.executable, "-m", "toolwright_server.main"]
SECONDS = 20
# Not secret: shows that the search finds what is there.
PLAIN = "plain-as-day-6021"
SECRETS = {
    way: f"hush-{way}-{number:04d}"
    for number, way in enumerate(
        ("loop", "worker", "struct", "deep", "stream", "nested", "raised", "raised-in-worker", "lied", "long", "wrong",
         "missing", "unknown", "reused"),
        start=4711,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, str]:
    """Everything that anybody but the callers themselves was told, by where: files of the server, answers, errors."""
    with live_server(folder, "--tools", str(TOOLS), env=settings(folder)) as server:
        heard = {"errors": "\n".join(errors(server))}
        for way, arguments in served().items():
            call(server, way, *arguments)
        heard["rpcs"] = read_back(server)
        heard["metrics"] = server.http("/metrics")[1]
        heard |= {name: command(server, *words) for name, words in COMMANDS.items()}
        heard |= {f"running {name}": text for name, text in files(folder).items()}
        server.terminate()
    return heard | files(folder)


COMMANDS = {
    "toolwright history": ("history",),
    "toolwright audit list": ("audit", "list"),
    "toolwright audit export": ("audit", "export", "--output", "export.jsonl"),
}


def settings(folder: Path) -> dict[str, str]:
    return {
        **TRACED,
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_LOG_LEVEL": "debug",
        "TOOLWRIGHT_AUDIT_KEY_FILE": str(folder / "audit.key"),
        # Every call is traced, to a file in the data directory.
        "OTEL_TRACES_SAMPLER": "always_on",
    }


def served() -> dict[str, tuple[str, dict[str, Any]]]:
    """The calls that reach their tools."""
    return {
        "loop": ("vault.open", {}),
        "worker": ("vault.open_sync", {}),
        "deep": ("vault.open", {"key": "k", "accounts": [{"name": PLAIN, "password": SECRETS["deep"]}]}),
        "nested": ("vault.nest", {}),
        "raised": ("vault.break", {}),
        "raised-in-worker": ("vault.break_sync", {}),
        "lied": ("vault.lie", {}),
    }


def call(server: LiveServer, way: str, tool: str, arguments: dict[str, Any]) -> Any:
    """Calls as text, as a Struct and as a stream."""
    with stubs(server) as (execution, _):
        asked = {"name": PLAIN, "key": SECRETS[way]} | arguments
        answer = execution.Execute(execute_request(tool, asked, request_id=way), timeout=SECONDS)
        if way != "loop":
            return
        # Its own caller is given what the tool gave.
        assert json.loads(answer.execution.result.value_json)["key"] == SECRETS["loop"]
        other = execute_request("vault.open", asked | {"key": SECRETS["reused"]}, request_id=way)
        assert refused(lambda: execution.Execute(other, timeout=SECONDS)).reason == "REQUEST_ID_REUSED"
        by_struct = execute_request("vault.open", request_id="struct")
        by_struct.call.arguments.update({"name": PLAIN, "key": SECRETS["struct"]})
        assert isinstance(execution.Execute(by_struct, timeout=SECONDS).execution.result.value, struct_pb2.Value)
        streamed = execute_request("vault.open_sync", asked | {"key": SECRETS["stream"]})
        events = execution.ExecuteStream(tool_execution_pb2.ExecuteStreamRequest(call=streamed.call), timeout=SECONDS)
        assert [event.event.WhichOneof("event") for event in events][-1] == "finished"


def errors(server: LiveServer) -> list[str]:
    """What is refused, and every word of the refusals."""
    wrong = {
        "long": {"name": PLAIN, "key": SECRETS["long"] * 10},
        "wrong": {"name": PLAIN, "key": [SECRETS["wrong"]]},
        "missing": {"key": SECRETS["missing"]},
        "unknown": {"name": PLAIN, "key": SECRETS["unknown"], "kye": 1, "accounts": [{"password": SECRETS["unknown"]}]},
    }
    with stubs(server) as (execution, catalog):
        del catalog
        found = [
            refused(lambda asked=asked: execution.Execute(execute_request("vault.open", asked), timeout=SECONDS))
            for asked in wrong.values()
        ]
    assert {status.reason for status in found} == {"INVALID_ARGUMENTS"}
    return [status.everything for status in found]


def read_back(server: LiveServer) -> str:
    """The history as the rpcs give it, results and arguments included."""
    with stubs(server) as (execution, _):
        rows = execution.ListExecutions(tool_execution_pb2.ListExecutionsRequest(page_size=1000), timeout=SECONDS)
        asked = [tool_execution_pb2.GetExecutionRequest(execution_id=row.execution_id) for row in rows.executions]
        return "\n".join(str(execution.GetExecution(request, timeout=SECONDS)) for request in asked) + str(rows)


def command(server: LiveServer, *words: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TOOLWRIGHT_", "OTEL_"))}
    ended = subprocess.run(
        [*COMMAND, *words, "--address", server.address],
        env=clean,
        cwd=server.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def files(folder: Path) -> dict[str, str]:
    """Every file of the server by its name, whatever is in it."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes().decode("latin-1") for path in found}


@pytest.mark.parametrize("way", SECRETS)
def test_no_secret_is_anywhere(said: dict[str, str], way: str) -> None:
    leaks = [place for place, text in said.items() if SECRETS[way] in text]
    assert not leaks, f"the secret sent as {way!r} is in {leaks}"


@pytest.mark.parametrize("place", ["rpcs", "data/toolwright.sqlite3"])
def test_what_is_no_secret_is_where_it_was_looked_for(said: dict[str, str], place: str) -> None:
    assert PLAIN in said[place]
    assert "[redacted]" in said[place]


@pytest.mark.parametrize("part", ["sqlite3", "server.log", "spans", "export.jsonl", "toolwright history", "metrics"])
def test_nothing_that_could_hold_a_secret_was_left_out(said: dict[str, str], part: str) -> None:
    assert any(part in place and text for place, text in said.items()), sorted(said)
