"""Ends what a killed fork server left behind: every process that carries its mark in the environment it was born with.

Only for that case; otherwise the fork server itself leaves nobody.
"""

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_SECONDS = 5.0


def end_marked(mark: bytes, dying: Iterable[int]) -> list[int]:
    """Kill until nobody with `mark` is left, for seconds at most. Blocks. Returns who is left.

    `dying` are descriptors of processes (pidfds) whose end is waited for as well: in the middle of its death a process
    has no environment any more.
    """
    end = time.monotonic() + _SECONDS
    for pidfd in dying:
        _wait(pidfd, end)
    while (found := _marked(mark)) and time.monotonic() < end:
        for pid in found:
            _kill(pid, mark, end)
    return found


def _marked(mark: bytes) -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _has(entry, mark)]


def _has(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or another user's


def _kill(pid: int, mark: bytes, end: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The number may be another process's by now; what the descriptor stands for cannot change any more.
        if _has(Path(f"/proc/{pid}"), mark):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _wait(pidfd, end)
    except OSError:
        pass
    finally:
        os.close(pidfd)


def _wait(pidfd: int, end: float) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(max(0.0, end - time.monotonic()) * 1000)
