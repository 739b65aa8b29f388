"""The commands against a real server that runs real tools."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import TRACED, LiveServer, eventually, live_server

COMMAND = [sys.executable, "-m", "toolwright_server.main"]
SECONDS = 40
TOOLS = '''
from toolwright_server import Effect, SyncToolContext, tool


@tool("mine.book", effect=Effect.SIDE_EFFECT)
async def book(seconds: float) -> str:
    """Books something, slowly."""
    import asyncio
    await asyncio.sleep(seconds)
    return "booked"


@tool("mine.steps", effect=Effect.READ_ONLY)
def steps(count: int, context: SyncToolContext) -> int:
    """Takes steps in a worker process."""
    for number in range(count):
        context.progress(number + 1, count)
        context.output(f"step {number + 1}")
    return count
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("live")
    (folder / "mine.py").write_text(TOOLS)
    with live_server(folder, "--tools", str(folder / "mine.py"), env=TRACED) as running:
        yield running


def environment(server: LiveServer) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TOOLWRIGHT_", "OTEL_", "TRACE"))}
    return {**clean, "TOOLWRIGHT_ADDRESS": server.address, "TOOLWRIGHT_DATA_DIR": str(server.data_dir)}


def run(server: LiveServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(server), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_the_tools_of_a_server_are_listed_and_described(server: LiveServer) -> None:
    listed = json.loads(run(server, "tools").stdout)
    names = [tool["name"] for tool in listed]
    assert names == sorted(names)
    assert {"mine.book", "mine.steps", "diagnostics.echo"} <= set(names)
    mine = json.loads(run(server, "tools", "--category", "mine").stdout)
    assert [tool["name"] for tool in mine] == ["mine.book", "mine.steps"]
    one = json.loads(run(server, "tools", "mine.book").stdout)
    assert one["description"] == "Books something, slowly."
    assert one["effect"] == "SIDE_EFFECT"
    assert one["input_schema"]["properties"]["seconds"] == {"type": "number"}


def test_arguments_come_back_digit_for_digit(server: LiveServer) -> None:
    done = run(server, "exec", "diagnostics.echo", '{"big": 9007199254740993, "text": "Zoë", "deep": {"a": [null]}}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"big": 9007199254740993, "text": "Zoë", "deep": {"a": [None]}}


def test_a_stream_of_a_worker_process_ends_with_its_result(server: LiveServer) -> None:
    done = run(server, "exec", "mine.steps", "count=3", "--stream")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "snapshot" in events[0]
    assert [event["output"]["text"] for event in events if "output" in event] == ["step 1", "step 2", "step 3"]
    assert events[-1]["finished"]["result"]["value"] == 3


@pytest.mark.parametrize(
    ("arguments", "exit_code", "reason"),
    [
        (["nothing.here"], 3, "TOOL_NOT_FOUND"),
        (["mine.steps", "count=many"], 4, "INVALID_ARGUMENTS"),
        (["diagnostics.burn", "seconds=30", "--timeout", "1"], 6, "CLIENT_DEADLINE"),
        (["diagnostics.burn", "seconds=30", "--tool-timeout", "0.5"], 6, "TOOL_TIMEOUT"),
        (["mine.book", "seconds=30", "--tool-timeout", "0.5"], 9, "TOOL_TIMEOUT"),
    ],
)
def test_each_failure_has_its_exit_code_and_says_what_to_do(
    server: LiveServer, arguments: list[str], exit_code: int, reason: str
) -> None:
    done = run(server, "exec", *arguments)
    assert done.returncode == exit_code, done.stderr
    assert f"reason: {reason}" in done.stderr
    assert "  try: " in done.stderr
    assert done.stdout == ""


def test_a_tool_that_fails_ends_with_1(server: LiveServer) -> None:
    done = run(server, "exec", "diagnostics.crash")
    assert done.returncode == 1, done.stderr
    assert "reason: TOOL_CRASHED" in done.stderr


def test_ctrl_c_stops_the_tool_on_the_server(server: LiveServer) -> None:
    with subprocess.Popen(
        [*COMMAND, "exec", "diagnostics.sleep", "seconds=60", "--stream", "--request-id", "stopped-by-hand"],
        env=environment(server),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        execution_id = json.loads(process.stdout.readline())["execution_id"]
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 7

    def said() -> bool:
        return any(line.get("execution_id") == execution_id for line in server.lines())

    eventually(said)


def test_a_call_is_drawn_as_a_trace(server: LiveServer) -> None:
    done = run(server, "exec", "diagnostics.echo", "a=1", "--json")
    execution_id = json.loads(done.stdout)["execution_id"]
    drawn = run(server, "trace", execution_id)
    assert drawn.returncode == 0, drawn.stderr
    assert "execute_tool diagnostics.echo" in drawn.stdout


def test_a_server_that_dies_in_the_middle_of_a_call_leaves_the_outcome_open(tmp_path: Path) -> None:
    with (
        live_server(tmp_path) as server,
        subprocess.Popen(
            [*COMMAND, "exec", "diagnostics.sleep", "seconds=60", "--stream"],
            env=environment(server),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        server.process.kill()
        assert process.wait(SECONDS) == 9
        assert "The connection was lost during the call" in process.stderr.read()


def test_what_a_server_keeps_is_for_its_owner_only(server: LiveServer) -> None:
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700


def test_a_second_server_on_the_same_port_is_refused_with_a_sentence(server: LiveServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "--listen", server.address, "--data-dir", str(tmp_path)],
        env={**environment(server), "TOOLWRIGHT_HTTP_LISTEN": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 78
    assert server.address in done.stderr
    assert "Traceback" not in done.stderr
