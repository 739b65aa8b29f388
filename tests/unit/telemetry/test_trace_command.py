import os
import pty
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from toolwright_server.commands.trace import draw, trees, why_not_found
from toolwright_server.telemetry.span_file import SpanFile, read_traces_of
from toolwright_server.telemetry.spans import SCOPE, SpanRecord

TRACE = "c" * 32
START = 1_800_000_000_000_000_000


def record(number: int, parent: int, name: str, **more: Any) -> SpanRecord:
    parent_id = f"{parent:016x}" if parent else ""
    remote = more.get("remote", False)
    begin, end = START + number * 1_000_000, START + 50_000_000 - number * 1_000_000
    return (
        name, TRACE, f"{number:016x}", parent_id, remote, 1, None, more.get("kind", 0), begin, end,
        more.get("status", 0), more.get("message"), more.get("attributes", {}), more.get("events"), None, SCOPE,
    )  # fmt: skip


def tool(execution_id: str) -> dict[str, Any]:
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.id": execution_id}


def kept(folder: Path) -> None:
    """A call whose tool calls another tool, which fails."""
    SpanFile(folder, max_bytes=10**6, resource={}).append(
        [
            record(3, 2, "execute_tool crm.b", attributes=tool("exec-b"), status=2, message="[no] such contact"),
            record(4, 2, "query", events=[("row", START, {"n": 1})], attributes={"sql": "x" * 500}),
            record(2, 1, "execute_tool crm.a", attributes=tool("exec-a")),
            record(1, 9, "toolwright.v1.ToolExecution/Execute", kind=1, remote=True,
                   attributes={"rpc.response.status_code": "OK"}),
        ]
    )  # fmt: skip


def drawn(folder: Path, execution_id: str) -> list[str]:
    console = Console(width=1000, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115 - lives as long as the test
    for tree in trees(read_traces_of(execution_id, folder), execution_id):
        console.print(tree)
    console.file.close()
    return console.export_text().splitlines()


def test_the_tree_shows_who_called_whom_how_long_it_took_and_what_failed(tmp_path: Path) -> None:
    kept(tmp_path)
    title, server, outer, inner, query, row = [line.rstrip() for line in drawn(tmp_path, "exec-a")]
    assert title == f"trace {TRACE}  2027-01-15 08:00:00 UTC  called from span 0000000000000009"
    assert server == "└── toolwright.v1.ToolExecution/Execute  48.0 ms  +0.0  code=OK"
    assert outer == "    └── execute_tool crm.a  46.0 ms  +1.0  execution=exec-a"
    assert inner == "        ├── execute_tool crm.b  44.0 ms  +2.0  ERROR [no] such contact  execution=exec-b"
    assert query == f"        └── query  42.0 ms  +3.0  sql={'x' * 60}…"
    assert row.strip() == "· row {'n': 1}"


def test_in_a_pipe_it_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path)
    assert draw("exec-b", tmp_path) == 0
    document = orjson.loads(capsys.readouterr().out)
    assert document["execution_id"] == "exec-b"
    assert [span["name"] for span in document["spans"]][:2] == [
        "toolwright.v1.ToolExecution/Execute",
        "execute_tool crm.a",
    ]


def test_on_a_terminal_it_is_a_tree(tmp_path: Path) -> None:
    kept(tmp_path)
    ours, theirs = pty.openpty()
    program = (
        "import sys; from pathlib import Path; from toolwright_server.commands.trace import draw\n"
        "sys.exit(draw('exec-a', Path(sys.argv[1])))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=theirs, env=_plain_terminal())
    assert process.wait(30) == 0
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert "└── " in text
    assert "crm.a" in text


def _plain_terminal() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm", "COLUMNS": "200"}


def test_a_deep_chain_of_nested_calls_is_drawn(tmp_path: Path) -> None:
    deep = 60
    records = [record(n, n - 1, "execute_tool x", attributes=tool(f"exec-{n}")) for n in range(1, deep + 1)]
    SpanFile(tmp_path, max_bytes=10**6, resource={}).append(records)
    assert len(drawn(tmp_path, "exec-5")) == deep + 1


def test_a_span_whose_parent_is_lost_is_drawn_as_a_tree_of_its_own(tmp_path: Path) -> None:
    SpanFile(tmp_path, max_bytes=10**6, resource={}).append(
        [record(2, 1, "execute_tool crm.a", attributes=tool("exec-a")), record(5, 4, "stray")]
    )
    assert draw("exec-a", tmp_path, wait_seconds=0) == 0
    assert [line for line in drawn(tmp_path, "exec-a") if line.startswith("trace ")] == [
        f"trace {TRACE}  2027-01-15 08:00:00 UTC  called from span {1:016x}",
        f"trace {TRACE}  2027-01-15 08:00:00 UTC  called from span {4:016x}",
    ]


def test_without_a_file_the_sentence_names_where_it_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_otlp: None
) -> None:
    assert draw("exec-z", tmp_path, wait_seconds=0) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"there is no {tmp_path}/spans.jsonl" in captured.err


@pytest.fixture
def no_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_the_sentence_says_when_spans_went_to_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in why_not_found("exec-z", tmp_path)


def test_the_sentence_tells_a_rotated_trace_from_one_that_was_not_sampled(tmp_path: Path, no_otlp: None) -> None:
    kept(tmp_path)

    def uuid7(milliseconds: int) -> str:
        return str(uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | 5))

    earlier, later = START // 1_000_000 - 60_000, START // 1_000_000 + 60_000
    assert "rotated" in why_not_found(uuid7(earlier), tmp_path)
    assert "not sampled" in why_not_found(uuid7(later), tmp_path)
    assert "not sampled" in why_not_found("no-uuid", tmp_path)
