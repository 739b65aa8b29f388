"""What a worker sees of the machine and of the calls before, and what it may not touch."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from toolwright_server.backends.process import ProcessBackend

from .conftest import StartBackend
from .rig import Tools, alive, run

pytestmark = pytest.mark.asyncio


async def who(backend: ProcessBackend, tools: Tools) -> dict[str, Any]:
    return orjson.loads(await asyncio.wait_for(run(backend, tools.work("process_who")), 20))


async def disturb(backend: ProcessBackend, tools: Tools, how: str) -> int:
    return int(await asyncio.wait_for(run(backend, tools.work("process_disturb", {"how": how})), 20))


async def test_workers_see_harmless_variables_and_those_that_the_operator_named(
    start: StartBackend, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    monkeypatch.setenv("CRM_REGION", "eu")
    monkeypatch.setenv("LC_TIME", "C")
    backend = await start(environment=("CRM_REGION",))
    seen = (await who(backend, tools))["environment"]
    assert "DATABASE_PASSWORD" not in seen
    assert (seen["CRM_REGION"], seen["LC_TIME"], seen["PATH"]) == ("eu", "C", os.environ["PATH"])


async def test_a_worker_has_its_own_group_the_least_priority_and_nothing_open(
    backend: ProcessBackend, tools: Tools
) -> None:
    seen = await who(backend, tools)
    assert seen["group"] == seen["pid"]
    assert seen["session"] == backend.fork_server_pid
    assert seen["nice"] == 19
    assert seen["stdin"] == ""
    assert seen["threads"] == 1
    assert sum(name.startswith("socket:") for name in seen["descriptors"]) == 1
    assert not any("pidfd" in name or name.startswith("pipe:") for name in seen["descriptors"][3:])
    assert seen["terminate"] == "0", "the default"


async def test_workers_never_import_grpc_or_the_executor(backend: ProcessBackend, tools: Tools) -> None:
    assert not {"grpc", "uvloop"} & set((await who(backend, tools))["modules"])


async def test_workers_do_not_share_their_random_numbers(start: StartBackend, tools: Tools) -> None:
    backend = await start(workers=1, calls_per_worker=1)
    assert len({(await who(backend, tools))["random"] for _ in range(3)}) == 3


@pytest.mark.parametrize("how", ["folder", "umask", "alarm"])
async def test_what_is_cheap_to_restore_is_restored(start: StartBackend, tools: Tools, how: str) -> None:
    backend = await start(workers=1)
    before = await who(backend, tools)
    assert await disturb(backend, tools, how) == before["pid"]
    after = await who(backend, tools)
    assert (after["pid"], after["folder"]) == (before["pid"], before["folder"])
    if how == "umask":
        assert int(_status(after["pid"], "Umask"), 8) == int(_status(os.getpid(), "Umask"), 8)


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("environment", "environment"),
        ("signals", "signals"),
        ("thread", "threads"),
        ("limits", "limits"),
        ("descriptors", "descriptors"),
        ("every descriptor", "descriptors"),
    ],
)
async def test_a_worker_that_was_changed_otherwise_is_dead_before_the_answer_is_given(
    start: StartBackend, tools: Tools, kills: list[str], how: str, reason: str
) -> None:
    backend = await start(workers=1)
    pid = await disturb(backend, tools, how)
    assert not alive(pid)
    assert kills == [reason]
    seen = await who(backend, tools)
    assert "TOUCHED" not in seen["environment"]


async def test_a_tool_that_forks_answers_once(start: StartBackend, tools: Tools) -> None:
    backend = await start(workers=1)
    pids = [await disturb(backend, tools, "fork") for _ in range(5)]
    assert -1 not in pids
    assert len(set(pids)) == 1


async def test_a_worker_that_died_while_it_was_idle_fails_nobody(start: StartBackend, tools: Tools) -> None:
    backend = await start(workers=1)
    pid = (await who(backend, tools))["pid"]
    os.kill(pid, signal.SIGSTOP)
    heard = tools.work("process_echo", {"unharmed": True})
    task = run(backend, heard)
    await heard.until(lambda: heard.starts == 1)
    os.kill(pid, signal.SIGKILL)
    assert await asyncio.wait_for(task, 20) == b'{"unharmed":true}'
    assert heard.starts == 1, "one attempt: nothing had happened before"


async def test_the_fork_server_is_single_threaded_and_has_no_more_children_than_workers(
    backend: ProcessBackend, tools: Tools
) -> None:
    await who(backend, tools)
    fork_server = psutil.Process(backend.fork_server_pid)
    assert fork_server.num_threads() == 1
    assert len(fork_server.children()) == 2
    assert fork_server.num_fds() <= 10
