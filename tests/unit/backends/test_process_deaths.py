"""The death of the server, and of the fork server: nobody outlives them, and a server goes on without the latter."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.live import eventually
from toolwright_server.backends.process import ProcessBackend, ProcessOptions
from toolwright_server.errors import Reason, SettingsError
from toolwright_server.execution.backend import Lost, NotSent

from .rig import Heard, Tools, alive, plan, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
# Far more than is needed, and little enough to notice a process that was overlooked.
SECONDS = 5.0


class PlayedServer:
    def __init__(self, process: subprocess.Popen[bytes], said: dict[str, Any]) -> None:
        self.process = process
        self.fork_server: int = said["fork_server"]
        self.everybody: list[int] = said["everybody"]

    def nobody_is_left(self) -> bool:
        return not any(map(alive, self.everybody))


@pytest.fixture
def server(tmp_path: Path) -> Generator[PlayedServer]:
    command = [sys.executable, "-m", "tests.unit.backends.played_server", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout:
        said = json.loads(process.stdout.readline())
        played = PlayedServer(process, said)
        assert len(played.everybody) >= 6, "the fork server, two workers, three that a tool left"
        assert all(map(alive, played.everybody))
        yield played
    process.kill()
    process.wait()


def test_nobody_outlives_a_server_that_was_killed(server: PlayedServer) -> None:
    server.process.kill()
    eventually(server.nobody_is_left, seconds=SECONDS)


def test_nobody_outlives_a_server_that_was_killed_while_its_fork_server_was_stopped(server: PlayedServer) -> None:
    os.kill(server.fork_server, signal.SIGSTOP)
    server.process.kill()
    os.kill(server.fork_server, signal.SIGCONT)
    eventually(server.nobody_is_left, seconds=SECONDS)


def test_workers_do_not_outlive_a_server_and_a_fork_server_that_are_killed_together(server: PlayedServer) -> None:
    """What tools left in sessions of their own can then only be found by its mark."""
    workers = [pid for pid in server.everybody if _is_worker(pid) and pid != server.fork_server]
    assert len(workers) == 2
    os.kill(server.fork_server, signal.SIGSTOP)
    server.process.kill()
    os.kill(server.fork_server, signal.SIGKILL)
    eventually(lambda: not any(map(alive, workers)), seconds=SECONDS)
    for pid in server.everybody:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def _is_worker(pid: int) -> bool:
    return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_terminals_signals_do_not_reach_the_fork_server(server: PlayedServer) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(server.fork_server, number)
    assert os.getsid(server.fork_server) == server.fork_server
    assert all(map(alive, server.everybody))


async def begun(backend: ProcessBackend, heard: Heard) -> "asyncio.Task[bytes]":
    task = run(backend, heard)
    await heard.first_progress()
    return task


@pytest.mark.asyncio
async def test_the_death_of_the_fork_server_loses_its_calls_and_leaves_nobody(
    backend: ProcessBackend, tools: Tools
) -> None:
    leaving, busy = tools.work("process_leave_behind", {"seconds": 300}), tools.work("process_burn")
    tasks = [await begun(backend, leaving), await begun(backend, busy)]
    await leaving.until(lambda: bool(leaving.of("log")))
    first = backend.fork_server_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    for task in tasks:
        with pytest.raises(Lost, match="together with the fork server"):
            await asyncio.wait_for(task, 20)
    left = [int(pid) for pid, _, _ in [*leaving.of("progress"), *busy.of("progress")]]
    assert len(left) == 4
    assert not any(map(alive, left)), "dead before anybody hears of it"
    assert await asyncio.wait_for(run(backend, tools.work("process_echo", {"again": 1})), 30) == b'{"again":1}'
    assert backend.fork_server_pid not in (None, first)


@pytest.mark.asyncio
async def test_a_nested_call_does_not_wait_for_the_next_fork_server(backend: ProcessBackend, tools: Tools) -> None:
    assert backend.fork_server_pid is not None
    os.kill(backend.fork_server_pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while _has_fork_server(backend):  # noqa: ASYNC110 (nobody is told)
            await asyncio.sleep(0)
    nested = tools.work("process_echo", nested=True)
    with pytest.raises(NotSent, match="are being replaced"):
        await asyncio.wait_for(run(backend, nested), 20)
    assert nested.starts == 0
    assert await asyncio.wait_for(run(backend, tools.work("process_echo", {"waits": 1})), 30) == b'{"waits":1}'


def _has_fork_server(backend: ProcessBackend) -> bool:
    return backend.fork_server_pid is not None


@pytest.mark.asyncio
async def test_tools_that_cannot_be_loaded_there_are_refused_at_start_by_name(tmp_path: Path) -> None:
    needy = tmp_path / "needy.py"
    needy.write_text("import os\nos.environ['CRM_KEY']\n")
    tool_plan = plan(tmp_path)
    backend = ProcessBackend(
        ProcessOptions(workers=1, extra_workers=1),
        replace(tool_plan, tools=[str(needy)]),
    )
    backend.spawn()
    with pytest.raises(SettingsError, match=r"needy\.py.*KeyError.*line 2.*process_environment"):
        await asyncio.wait_for(backend.start(), 30)
    await backend.close()


@pytest.mark.asyncio
async def test_a_fork_server_that_cannot_be_made_again_refuses_calls_as_not_started(tmp_path: Path) -> None:
    fickle = tmp_path / "fickle.py"
    fickle.write_text("from toolwright_server import tool\n@tool('fickle.sit')\ndef sit() -> int:\n    return 1\n")
    tool_plan = plan(tmp_path)
    backend = ProcessBackend(
        ProcessOptions(workers=1, extra_workers=0),
        replace(tool_plan, tools=[*tool_plan.tools, str(fickle)]),
    )
    backend.spawn()
    await asyncio.wait_for(backend.start(), 30)
    fickle.write_text("broken!")
    assert backend.fork_server_pid is not None
    os.kill(backend.fork_server_pid, signal.SIGKILL)
    tools = Tools(tmp_path)
    failure = None
    while failure is None:
        try:
            await asyncio.wait_for(run(backend, tools.work("process_echo")), 30)
        except Lost:
            continue
        except NotSent as error:
            failure = error.failure
    assert failure.reason is Reason.UPSTREAM_UNAVAILABLE
    assert failure.retry_delay
    fickle.unlink()
    fickle.write_text("from toolwright_server import tool\n@tool('fickle.sit')\ndef sit() -> int:\n    return 1\n")
    answer = None
    while answer is None:
        try:
            answer = await asyncio.wait_for(run(backend, tools.work("process_echo", {"back": 1})), 30)
        except NotSent:
            await asyncio.sleep(0)
    assert answer == b'{"back":1}'
    await backend.close()


@pytest.mark.asyncio
async def test_closing_leaves_nobody_and_refuses_what_waits(tools: Tools, backend: ProcessBackend) -> None:
    holding = [tools.work("process_leave_behind", {"seconds": 300}) for _ in range(2)]
    tasks = [await begun(backend, heard) for heard in holding]
    for heard in holding:
        await heard.until(lambda heard=heard: bool(heard.of("log")))
    waiting = run(backend, tools.work("process_echo"))
    await asyncio.sleep(0)
    fork_server = backend.fork_server_pid
    assert fork_server is not None
    await asyncio.wait_for(backend.close(), 20)
    with pytest.raises(NotSent, match="shutting down"):
        await waiting
    for task in tasks:
        with pytest.raises(Lost):
            await asyncio.wait_for(task, 20)
    left = [int(pid) for heard in holding for pid, _, _ in heard.of("progress")]
    assert not any(map(alive, [fork_server, *left]))
    with pytest.raises(NotSent):
        await asyncio.wait_for(run(backend, tools.work("process_echo")), 20)
