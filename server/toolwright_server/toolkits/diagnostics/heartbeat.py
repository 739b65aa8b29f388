"""A sign of life that outlives its process: a file of 8 bytes, the monotonic clock's nanoseconds at the last beat.

The clock is the machine's (CLOCK_MONOTONIC), so that any process on it can say how long ago the beat was. Imports the
standard library only: it is also run as a script, by what `spawn` leaves behind.
"""

import mmap
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

INTERVAL_SECONDS = 0.002
FILES_LIMIT = 1024
_SIZE = 8


class Heartbeat:
    """Beats into `path`: 20 ns a beat, no system call, visible to others at once and even after a SIGKILL."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(_SIZE)
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._cell = memoryview(self._map).cast("Q")
        self.beat()

    def beat(self) -> None:
        """Record that the work is alive now."""
        self._cell[0] = time.monotonic_ns()

    def close(self) -> None:
        """The last beat stays in the file."""
        self._cell.release()
        self._map.close()


class HeartbeatThread:
    """Beats from a thread of its own for as long as the block lasts: for work that cannot beat itself."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_SECONDS):
            self._heartbeat.beat()


def last_beat(path: Path) -> float | None:
    """When the last beat was, as `time.monotonic()` would have said then; None without any."""
    content = path.read_bytes() if path.exists() else b""
    return int.from_bytes(content, sys.byteorder) / 1e9 if len(content) == _SIZE else None


def beat_for(path: Path, seconds: float) -> None:
    """Beat into `path` for so long, then return."""
    heartbeat = Heartbeat(path)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(INTERVAL_SECONDS)
        heartbeat.beat()
    heartbeat.close()


if __name__ == "__main__":
    beat_for(Path(sys.argv[1]), float(sys.argv[2]))
