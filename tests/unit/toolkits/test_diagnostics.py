import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from toolwright_server import Effect, Runs, ToolCallError, ToolError
from toolwright_server.toolkits.diagnostics import answers, failures, nesting, toolkit, waits
from toolwright_server.toolkits.diagnostics.heartbeat import FILES_LIMIT, Heartbeat, beat_for, last_beat

from .calls import AsyncCall, SyncCall, accepted, fits


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path) -> None:
    toolkit.configure({}, tmp_path)


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """Processes that are killed when the test is over."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_every_tool_is_in_the_category_whose_time_limit_it_has() -> None:
    assert {tool.category for tool in toolkit.tools} == {"diagnostics"}
    assert {tool.timeout_seconds for tool in toolkit.tools} == {None}
    assert toolkit.loopback_only


def test_only_the_tools_that_call_others_may_have_side_effects() -> None:
    assert {tool.name for tool in toolkit.tools if tool.effect is not Effect.READ_ONLY} == {
        "diagnostics.nest",
        "diagnostics.nest_sync",
    }


def test_what_can_hurt_the_process_runs_in_one_that_can_be_killed() -> None:
    runs = {tool.name.removeprefix("diagnostics."): tool.runs for tool in toolkit.tools}
    killable = {name for name, where in runs.items() if where is Runs.PROCESS}
    assert killable == {"burn", "block", "spawn", "crash", "big", "allocate", "nest_sync"}


@pytest.mark.asyncio
@pytest.mark.parametrize("arguments", [{}, {"a": 1, "context": None, "arguments": [{"ä": 0.5}], "self": "x"}])
async def test_echo_returns_its_arguments_unchanged(arguments: dict[str, Any]) -> None:
    assert accepted(toolkit, "echo", arguments)
    assert await answers.echo(**arguments) == arguments


@pytest.mark.asyncio
@pytest.mark.parametrize("interval", [0, 0.001])
async def test_count_reports_each_step(interval: float) -> None:
    call = AsyncCall()
    assert (await answers.count(call, 70, interval)).steps == 70
    assert call.progressed == [(step, 70) for step in range(1, 71)]


@pytest.mark.asyncio
async def test_counting_without_a_pause_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await answers.count(AsyncCall(), 3200, 0)
    beside.cancel()
    assert turns >= 100


@pytest.mark.parametrize("tool", ["sleep", "burn", "block", "spawn", "stubborn", "hog"])
@pytest.mark.parametrize("seconds", [0, -1, 3601, "1", None])
def test_seconds_are_bounded(tool: str, seconds: Any) -> None:
    assert accepted(toolkit, tool, {"seconds": 0.5})
    assert not accepted(toolkit, tool, {"seconds": seconds})


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", "x" * 65, ".", "a.b", "x\n", "\0"])
@pytest.mark.parametrize("tool", ["sleep", "burn", "block", "spawn"])
def test_a_heartbeat_is_a_name_and_never_a_path(tool: str, name: str) -> None:
    assert accepted(toolkit, tool, {"seconds": 1, "heartbeat": "burn-17_a"})
    assert not accepted(toolkit, tool, {"seconds": 1, "heartbeat": name})


@pytest.mark.asyncio
async def test_waits_say_how_long_they_took_and_leave_a_sign_of_life() -> None:
    for name, wait in {"burn": waits.burn, "block": waits.block}.items():
        start = time.monotonic()
        waited = wait(0.02, heartbeat=name)
        beat = last_beat(toolkit.data_dir / "heartbeats" / name)
        assert waited.seconds >= 0.019
        assert fits(toolkit, name, waited)
        assert beat is not None
        assert start <= beat <= time.monotonic()
    assert fits(toolkit, "sleep", await waits.sleep(0.01, heartbeat="sleep"))
    assert fits(toolkit, "sleep", await waits.sleep(0.001))
    assert fits(toolkit, "hog", await waits.hog(0.001))
    assert last_beat(toolkit.data_dir / "heartbeats" / "sleep") is not None


def test_a_blocked_thread_shows_life_until_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "toolkits" / "diagnostics" / "heartbeats" / "blocked"
    code = (
        "import sys; from pathlib import Path; from toolwright_server.toolkits.diagnostics import toolkit, waits;"
        "toolkit.configure({}, Path(sys.argv[1])); waits.block(60, heartbeat='blocked')"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as process:
        first = wait_for(lambda: last_beat(path))
        later = wait_for(lambda: (beat := last_beat(path)) and beat > first and beat)
        process.kill()
    killed = time.monotonic()
    last = last_beat(path)
    assert last is not None
    assert later <= last <= killed


def test_spawn_leaves_grandchildren_behind_that_show_life_too(ended: list[int]) -> None:
    spawned = waits.spawn(0.05, heartbeat="left")
    ended += spawned.pids
    assert fits(toolkit, "spawn", spawned)
    path = toolkit.data_dir / "heartbeats" / "left"
    returned = time.monotonic()
    assert wait_for(lambda: (beat := last_beat(path)) and beat > returned)
    left = [psutil.Process(pid) for pid in spawned.pids]
    assert len(left) == 2
    assert all(process.ppid() != os.getpid() for process in left)
    assert os.getsid(spawned.pids[0]) == os.getsid(0)
    assert os.getsid(spawned.pids[1]) != os.getsid(0)


def test_spawn_can_keep_to_its_own_session(ended: list[int]) -> None:
    spawned = waits.spawn(0.001, own_session=False)
    ended += spawned.pids
    assert [psutil.Process(pid).name() for pid in spawned.pids] == ["sleep"]


@pytest.mark.asyncio
async def test_stubborn_swallows_every_cancellation() -> None:
    task = asyncio.create_task(waits.stubborn(0.05))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    swallowed = await task
    assert swallowed.cancellations == 3
    assert fits(toolkit, "stubborn", swallowed)


@pytest.mark.asyncio
async def test_fail_carries_the_words_it_was_given() -> None:
    with pytest.raises(ToolError, match="no room") as caught:
        await failures.fail(
            message="no room", tool_reason="FULL", user_message="Full.", retryable=True, retry_delay_seconds=2
        )
    error = caught.value
    assert (error.reason, error.user_message, error.retryable, error.retry_delay) == ("FULL", "Full.", True, 2)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "raised"), [("exception", RuntimeError), ("exit", SystemExit), ("memory", MemoryError)]
)
async def test_fail_raises_what_was_asked_for(kind: Any, raised: type[BaseException]) -> None:
    with pytest.raises(raised, match="why"):
        await failures.fail(kind=kind, message="why")


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_fail_can_break_its_output_schema() -> None:
    assert not fits(toolkit, "fail", await failures.fail(kind="output_invalid"))


@pytest.mark.parametrize(
    ("how", "code"),
    [("SIGABRT", -6), ("SIGSEGV", -11), ("SIGBUS", -7), ("SIGKILL", -9), ("SIGTERM", -15), ("exit", 3)],
)
def test_crash_ends_its_process(how: Any, code: int) -> None:
    assert accepted(toolkit, "crash", {"how": how})
    pid = os.fork()
    if pid == 0:
        # Only what is safe in a fork of a test run.
        failures.crash(how)
        os._exit(99)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == code


def test_big_and_allocate_are_as_large_as_asked() -> None:
    assert answers.big(1000).data == "x" * 1000
    assert answers.big(0).data == ""
    assert answers.allocate(1000).bytes == 1000


@pytest.mark.asyncio
async def test_nested_calls_return_the_value_unchanged() -> None:
    def nested(tool: str, arguments: Any) -> Any:
        return [tool, arguments]

    on_loop, in_worker = AsyncCall(), SyncCall()
    on_loop.nested = in_worker.nested = nested
    assert await nesting.nest(on_loop, "a.b", {"x": 1}) == ["a.b", {"x": 1}]
    assert nesting.nest_sync(in_worker, "a.b") == ["a.b", {}]


@pytest.mark.asyncio
async def test_a_nested_failure_keeps_its_reason() -> None:
    def nested(tool: str, arguments: Any) -> Any:
        raise ToolCallError("TOOL_NOT_FOUND", "there is no tool", metadata={"near": "a.c"})

    on_loop, in_worker = AsyncCall(), SyncCall()
    on_loop.nested = in_worker.nested = nested
    with pytest.raises(ToolError, match="there is no tool") as caught:
        await nesting.nest(on_loop, "a.b")
    assert (caught.value.reason, caught.value.metadata) == ("TOOL_NOT_FOUND", {"near": "a.c"})
    with pytest.raises(ToolError, match="there is no tool"):
        nesting.nest_sync(in_worker, "a.b")


def test_heartbeat_files_are_bounded_in_number() -> None:
    folder = toolkit.data_dir / "heartbeats"
    folder.mkdir()
    for number in range(FILES_LIMIT):
        (folder / str(number)).touch()
    with pytest.raises(ToolError, match="heartbeat files already"):
        waits.burn(0.001, heartbeat="one-more")
    assert waits.burn(0.001, heartbeat="17").seconds > 0


def test_there_is_no_last_beat_before_the_first(tmp_path: Path) -> None:
    assert last_beat(tmp_path / "none") is None
    beat_for(tmp_path / "some", 0.001)
    assert last_beat(tmp_path / "some") is not None
    first = last_beat(tmp_path / "some") or 0
    heartbeat = Heartbeat(tmp_path / "some")
    heartbeat.beat()
    heartbeat.close()
    assert (last_beat(tmp_path / "some") or 0) > first


def wait_for(happened: Any) -> Any:
    """What `happened()` returns once it returns something."""
    pause = time.monotonic() + 20
    while not (value := happened()):
        assert time.monotonic() < pause, "nothing happened for 20 s"
        os.sched_yield()
    return value
