"""Starts and ends the processes that are measured and reads what CPU time they took; knows not what they serve."""

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0


def free_port() -> int:
    """A port of the loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings of ours or of OpenTelemetry that the shell may hold, plus `extra`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TOOLWRIGHT_", "OTEL_", "GRPC_"))}
    return {**kept, **extra}


class Process:
    """One process of ours, started and ended here. What it writes goes to a file, unless its first line is wanted."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        extra: Mapping[str, str],
        *,
        speaks: bool = False,
        members: str = "",
    ) -> None:
        """`members`: a word in the command line of its children that are what is measured, as it is itself."""
        self.name = name
        self._members = members
        self._log = log
        with log.open("wb") as written:
            stdout = subprocess.PIPE if speaks else written
            self._popen = subprocess.Popen(command, cwd=ROOT, env=environment(extra), stdout=stdout, stderr=written)

    @classmethod
    def module(cls, name: str, module: str, log: Path) -> Self:
        """A module of this package as a process that prints one line."""
        return cls(name, [sys.executable, "-m", module], log, {}, speaks=True)

    def first_line(self, seconds: float) -> str:
        """The first line the process prints.

        Raises:
            RuntimeError: it ended, or printed nothing in time; says what it wrote.
        """
        stdout = self._popen.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], seconds)
        line = stdout.readline().decode().strip() if ready else ""
        if not line:
            raise RuntimeError(f"{self.name} printed nothing within {seconds:g} s; {self.last_words()}")
        return line

    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._popen.poll() is None

    def last_words(self) -> str:
        """The end of what the process wrote."""
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return f"it wrote: {text[-2000:] or '(empty)'}"

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time, user and system, of the process itself with its members, and of its other descendants."""
        process = psutil.Process(self._popen.pid)
        own, others = _cpu(process), 0.0
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if self._members and self._members in child.cmdline():
                    own += _cpu(child)
                else:
                    others += _cpu(child)
        return own, others

    def stop(self) -> None:
        """Ends the process: SIGTERM, and SIGKILL when it does not listen."""
        if self.running():
            self._popen.terminate()
            try:
                self._popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not end within {STOP_SECONDS:g} s of SIGTERM and was killed")
                self._popen.kill()
                self._popen.wait(STOP_SECONDS)
        if self._popen.stdout is not None:
            self._popen.stdout.close()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
