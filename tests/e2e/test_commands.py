"""The commands as processes: exit codes, signals, pipes and terminals."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.unit.commands.scripted_server import Scripted, event, execution, serving
from toolwright.v1 import common_pb2, tool_catalog_pb2

COMMAND = [sys.executable, "-m", "toolwright_server.main"]
SECONDS = 40


@pytest.fixture
def script() -> Iterator[Scripted]:
    script = Scripted()
    with serving(script):
        yield script


def environment(**more: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TOOLWRIGHT_", "OTEL_", "TRACE"))}
    return {**clean, "TERM": "xterm", "COLUMNS": "120", **more}


def run(*arguments: str, cwd: Path | None = None, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(**more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def started(*arguments: str) -> Generator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def on_terminal(*arguments: str, **more: str) -> tuple[int, str]:
    """Exit code and everything that the terminal was sent."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**more)
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                seen += os.read(ours, 65_536)
            except OSError:  # how Linux says that the other side is closed
                break
        return process.wait(max(0.1, deadline - time.monotonic())), seen.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, toolwright_server.main as m\n"
        "sys.argv = ['toolwright', '--help']\n"
        "try:\n    m.main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'grpc', 'rich', 'opentelemetry', 'sqlalchemy', 'uvloop', 'google.protobuf'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("serve", "check-config", "tools", "exec", "trace"):
        assert f"  {command} " in done.stdout


def test_the_version_is_that_of_the_distribution() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"toolwright {version('toolwright-server')}\n", "")


@pytest.mark.parametrize("command", ["serve", "check-config"])
@pytest.mark.parametrize(
    ("folder", "why"),
    [("file", "file is no folder"), ("file/below", "file is no folder"), ("x" * 300, "File name too long")],
)
def test_a_data_directory_that_cannot_be_used_ends_with_78_and_words(
    tmp_path: Path, command: str, folder: str, why: str
) -> None:
    (tmp_path / "file").touch()
    done = run(command, "--data-dir", str(tmp_path / folder), "--listen", "127.0.0.1:0", TOOLWRIGHT_HTTP_LISTEN="")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("toolwright: data_dir (TOOLWRIGHT_DATA_DIR) = ")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_bytes_that_are_no_text_end_with_2_and_words() -> None:
    done = subprocess.run(
        [*COMMAND, "exec", "t", b"name=\xff"], env=environment(), capture_output=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b'toolwright: the arguments: \'{"name": "\\udcff\' is not text in UTF-8\n'


def test_an_id_that_is_no_text_has_no_trace(tmp_path: Path) -> None:
    command = [*COMMAND, "trace", b"\xff", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert b"no trace of" in done.stderr


def test_arguments_come_from_standard_input(script: Scripted) -> None:
    done = run("exec", "t", "-", "--address", script.address, stdin='{"a": [1, 2]}\n')
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    assert json.loads(script.calls[0].arguments_json) == {"a": [1, 2]}


def test_options_may_stand_between_the_arguments(script: Scripted) -> None:
    done = run("exec", "t", "a=-1", "--timeout", "9", "b=x y", TOOLWRIGHT_ADDRESS=script.address)
    assert done.returncode == 0
    assert json.loads(script.calls[0].arguments_json) == {"a": -1, "b": "x y"}


@pytest.mark.parametrize(
    "arguments", [["exec"], ["exec", "t", "x"], ["exec", "t", "--timeout", "soon"], ["nonsense"], ["tools", "a", "b"]]
)
def test_what_cannot_be_meant_ends_with_2_and_words(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_ctrl_c_cancels_the_call_and_ends_with_7(script: Scripted, stream: list[str]) -> None:
    def held(context: Any) -> Iterator[common_pb2.ExecutionEvent]:
        yield event(1, progress=common_pb2.Progress(progress=1))
        script.hold(context)

    script.answer, script.events = script.hold, held
    with started("exec", "t", *stream, "--address", script.address, "--request-id", "r-1") as process:
        assert script.arrived.wait(SECONDS)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 7
    assert "interrupted; the call is cancelled" in told
    assert "request: r-1" in told
    assert "Traceback" not in told
    assert script.cancelled.wait(10)


def test_a_reader_that_goes_away_ends_the_call_in_silence(script: Scripted) -> None:
    def endless(context: Any) -> Iterator[common_pb2.ExecutionEvent]:
        context.add_callback(script.cancelled.set)
        for number in range(1, 10_000_000):
            if script.cancelled.is_set():
                return
            yield event(number, output=common_pb2.Output(text="x" * 1000))

    script.events = endless
    with started("exec", "t", "--stream", "--address", script.address) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["sequence"] == 1
        process.stdout.close()
        assert process.wait(SECONDS) == 7
        assert process.stderr.read() == ""
    assert script.cancelled.wait(10)


def test_a_terminal_shows_progress_output_and_log_and_then_the_result(script: Scripted) -> None:
    script.events = lambda _: iter(
        [
            event(0, snapshot=execution(common_pb2.STATE_RUNNING)),
            event(1, progress=common_pb2.Progress(progress=2, total=4, message="[b]half[/b] way")),
            event(2, output=common_pb2.Output(text="a line \x1b]0;title\x07\n")),
            event(3, output=common_pb2.Output(data=b"123", channel="raw")),
            event(4, log=common_pb2.Log(level="warning", text="low on tea")),
            event(5, warning=common_pb2.Warning(reason="R", message="close to a limit")),
            event(6, finished=execution(value_json='{"done": true}')),
        ]
    )
    code, seen = on_terminal("exec", "t", "--stream", "--address", script.address)
    assert code == 0
    for part in ("a line", "(3 bytes on raw)", "warning: low on tea", "warning: R: close to a limit", '"done"', "true"):
        assert part in seen
    assert "\x1b]0;title" not in seen


def test_a_terminal_shows_the_tools_as_a_table(script: Scripted) -> None:
    tool = tool_catalog_pb2.Tool(name="a.one", version="1", effect=common_pb2.EFFECT_READ_ONLY)
    tool.description = "Does [one] thing.\n\nIn detail."
    tool.input_schema_json = '{"type": "object"}'
    script.tools.append(tool)
    code, seen = on_terminal("tools", "--address", script.address)
    assert code == 0
    for part in ("name", "effect", "a.one", "READ_ONLY", "Does [one] thing."):
        assert part in seen
    code, seen = on_terminal("tools", "a.one", "--address", script.address)
    assert code == 0
    assert "input schema:" in seen


def test_a_terminal_that_wants_json_gets_json(script: Scripted) -> None:
    code, seen = on_terminal("exec", "t", "--json", "--address", script.address)
    assert (code, json.loads(seen)["result"]["value"]) == (0, 42)


def test_check_config_says_what_would_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from toolwright_server import tool\n\n@tool('mine.one')\ndef one() -> int:\n    return 1\n"
    )
    (tmp_path / "t.toml").write_text('listen = "127.0.0.1:0"\ntoolkits = ["diagnostics"]\n')
    done = run("check-config", "--config", "t.toml", "--tools", "mine.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "listen     127.0.0.1:0" in done.stdout
    assert f"data       {tmp_path / '.toolwright'}" in done.stdout
    assert "mine.one 1" in done.stdout
    assert not (tmp_path / ".toolwright").exists()


def test_check_config_reads_the_limits_file(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('[[rule]]\nname = "mine"\nper = "user"\ncount = "day"\nlimit = 0\n')
    variables = {"TOOLWRIGHT_LISTEN": "127.0.0.1:0", "TOOLWRIGHT_LIMITS_FILE": "limits.toml"}
    done = run("check-config", cwd=tmp_path, **variables)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("toolwright: limits.toml, line 5: rule mine: limit must be a whole number")


@pytest.mark.parametrize("command", ["check-config", "serve"])
@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (["--listen", "0.0.0.0:50051"], {}, "listen = '0.0.0.0:50051' can be reached from other machines"),
        ([], {"TOOLWRIGHT_LISTN": "x"}, "TOOLWRIGHT_LISTN is no setting; the nearest one is TOOLWRIGHT_LISTEN"),
        ([], {"TOOLWRIGHT_TOOLKITS": "crn"}, "there is no toolkit 'crn'; did you mean 'crm'?"),
        (["--tools", "nowhere.py"], {"TOOLWRIGHT_LISTEN": "127.0.0.1:0"}, "there is no such file"),
        (["--config", "nowhere.toml"], {}, "nowhere.toml cannot be read"),
    ],
)
def test_a_configuration_that_cannot_be_right_ends_with_78_and_a_sentence(
    tmp_path: Path, command: str, arguments: list[str], variables: dict[str, str], sentence: str
) -> None:
    done = run(command, *arguments, cwd=tmp_path, **variables)
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.startswith("toolwright: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
