"""Ends what a killed fork server left behind: every process that carries its mark in the environment it was born with.

Only for that case; otherwise the fork server itself leaves nobody.
"""

import os
import signal
import time
from pathlib import Path

_SECONDS = 5.0
_PAUSE_SECONDS = 0.002


def end_marked(mark: bytes) -> list[int]:
    """Kill until nobody with `mark` is left, for seconds at most. Blocks. Returns who is left."""
    end = time.monotonic() + _SECONDS
    while (found := _marked(mark)) and time.monotonic() < end:
        for pid in found:
            _kill(pid, mark)
        time.sleep(_PAUSE_SECONDS)
    return found


def _marked(mark: bytes) -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _has(entry, mark)]


def _has(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or another user's


def _kill(pid: int, mark: bytes) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The number may be another process's by now; what the descriptor stands for cannot change any more.
        if _has(Path(f"/proc/{pid}"), mark):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(pidfd)
