"""Tools that take their time, each in another way that a server must be able to end: a waiting task, a busy loop, a
blocking C call, grandchildren, swallowed cancellation, a blocked event loop.
"""

import asyncio
import contextlib
import ctypes
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from toolwright_server import Effect, ToolError
from toolwright_server.toolkits.diagnostics import heartbeat as heartbeats
from toolwright_server.toolkits.diagnostics.heartbeat import INTERVAL_SECONDS, Heartbeat, HeartbeatThread
from toolwright_server.toolkits.diagnostics.kit import HeartbeatName, Seconds, toolkit

# What `spawn` leaves behind ends by itself some time later, should the server fail to end it.
LEFT_BEHIND_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Waited:
    """`seconds` really taken."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Spawned:
    """`pids` of the processes that were left behind."""

    seconds: float
    pids: list[int]


@dataclass(frozen=True, slots=True)
class Swallowed:
    """`cancellations`: how often the call was told to stop and went on."""

    seconds: float
    cancellations: int


@toolkit.tool("sleep", effect=Effect.READ_ONLY)
async def sleep(seconds: Seconds, heartbeat: HeartbeatName | None = None) -> Waited:
    """Waits on the event loop, and can be cancelled at any moment.

    Args:
        seconds: How long to wait.
        heartbeat: Name of a file in the toolkit's `heartbeats` folder that shows the last sign of life.
    """
    start = time.monotonic()
    with _beating(heartbeat) as beating:
        if beating is None:
            await asyncio.sleep(seconds)
        else:
            while (left := start + seconds - time.monotonic()) > 0:
                await asyncio.sleep(min(left, INTERVAL_SECONDS))
                beating.beat()
    return Waited(time.monotonic() - start)


@toolkit.tool("burn", effect=Effect.READ_ONLY)
def burn(seconds: Seconds, heartbeat: HeartbeatName | None = None) -> Waited:
    """Keeps one core busy in a Python loop that never waits.

    Args:
        seconds: How long to burn.
        heartbeat: Name of a file in the toolkit's `heartbeats` folder that shows the last sign of life.
    """
    start = time.monotonic()
    end = start + seconds
    with _beating(heartbeat) as beating:
        if beating is None:
            while time.monotonic() < end:
                pass
        else:
            while time.monotonic() < end:
                beating.beat()
    return Waited(time.monotonic() - start)


@toolkit.tool("block", effect=Effect.READ_ONLY)
def block(seconds: Seconds, heartbeat: HeartbeatName | None = None) -> Waited:
    """Blocks in one C call (`poll`), in which no line of Python runs in the calling thread.

    Args:
        seconds: How long to block; a signal that is handled ends it early.
        heartbeat: Name of a file in the toolkit's `heartbeats` folder that shows the last sign of life, here of a
            second thread.
    """
    start = time.monotonic()
    with _beating(heartbeat) as beating, contextlib.nullcontext() if beating is None else HeartbeatThread(beating):
        ctypes.CDLL(None).poll(None, 0, max(1, round(seconds * 1000)))
    return Waited(time.monotonic() - start)


@toolkit.tool("spawn", effect=Effect.READ_ONLY)
def spawn(seconds: Seconds, own_session: bool = True, heartbeat: HeartbeatName | None = None) -> Spawned:
    """Leaves a grandchild process behind, whose parent has already ended, and then waits.

    The grandchild would live for a minute longer than the call.

    Args:
        seconds: How long to wait after that.
        own_session: Leave a second grandchild as well, in a session of its own, where no process group reaches it.
        heartbeat: Name of a file in the toolkit's `heartbeats` folder that shows the last sign of life, here of the
            grandchildren too.
    """
    start = time.monotonic()
    with _beating(heartbeat) as beating:
        path = None if heartbeat is None else _heartbeat_path(heartbeat)
        pids = [_leave_behind(seconds, path, alone) for alone in ([False, True] if own_session else [False])]
        while (left := start + seconds - time.monotonic()) > 0:
            time.sleep(left if beating is None else min(left, INTERVAL_SECONDS))
            if beating is not None:
                beating.beat()
    return Spawned(time.monotonic() - start, pids)


@toolkit.tool("stubborn", effect=Effect.READ_ONLY)
async def stubborn(seconds: Seconds) -> Swallowed:
    """Swallows every cancellation for as long as it runs: what a broken async tool does.

    Args:
        seconds: How long to go on.
    """
    start = time.monotonic()
    cancellations = 0
    while (left := start + seconds - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            cancellations += 1
    return Swallowed(time.monotonic() - start, cancellations)


@toolkit.tool("hog", effect=Effect.READ_ONLY)
async def hog(seconds: Seconds) -> Waited:
    """Blocks the server's event loop: what an async tool does that calls blocking code.

    Args:
        seconds: How long to block everybody.
    """
    start = time.monotonic()
    time.sleep(seconds)  # noqa: ASYNC251 (blocking the loop is what this tool is for)
    return Waited(time.monotonic() - start)


@contextlib.contextmanager
def _beating(name: str | None) -> Generator[Heartbeat | None]:
    if name is None:
        yield None
        return
    beating = Heartbeat(_heartbeat_path(name))
    try:
        yield beating
    finally:
        beating.close()


def _heartbeat_path(name: str) -> Path:
    """Where the heartbeat of this name is; the name was checked by the schema."""
    folder = toolkit.data_dir / "heartbeats"
    folder.mkdir(exist_ok=True)
    path = folder / name
    if not path.exists() and sum(1 for _ in folder.iterdir()) >= heartbeats.FILES_LIMIT:
        raise ToolError(
            f"there are {heartbeats.FILES_LIMIT} heartbeat files already",
            reason="TOO_MANY_HEARTBEATS",
            suggested_action="Use the name of an earlier heartbeat again.",
        )
    return path


def _leave_behind(seconds: float, heartbeat: Path | None, own_session: bool) -> int:
    """Start a process whose parent, a shell, ends at once. Returns its pid."""
    lifetime = str(seconds + LEFT_BEHIND_SECONDS)
    work = ["sleep", lifetime]
    if heartbeat is not None:
        work = [sys.executable, "-I", "-S", str(Path(heartbeats.__file__)), str(heartbeat.absolute()), lifetime]
    shell = ["/bin/sh", "-c", '"$@" >/dev/null 2>&1 </dev/null & echo $!', "sh", *work]
    told = subprocess.run(  # noqa: S603 (fixed words, and numbers and a path of our own)
        shell, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=own_session
    )
    return int(told.stdout)
