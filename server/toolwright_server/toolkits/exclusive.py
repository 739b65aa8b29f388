"""One process at a time, by a lock on a file. The kernel gives the lock back when its holder dies, however it dies."""

import contextlib
import fcntl
import time
from collections.abc import Generator
from pathlib import Path

_RETRY_SECONDS = 0.005


@contextlib.contextmanager
def exclusive(path: Path, wait_seconds: float) -> Generator[bool]:
    """Hold the lock at `path` during the block; False when another process still held it after `wait_seconds`."""
    end = time.monotonic() + wait_seconds
    with path.open("a") as file:
        held = _locked(file.fileno())
        while not held and time.monotonic() < end:
            time.sleep(_RETRY_SECONDS)
            held = _locked(file.fileno())
        # Closing the file gives the lock back.
        yield held


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
