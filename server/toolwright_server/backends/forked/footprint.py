"""What a call changed in its worker: cheap things are put back; anything else makes the worker unfit for more."""

import os
import resource
import signal
import sys
import threading

from toolwright_server.backends.forked.linux import ThreadCount, children, data_bytes

# Handlers that a tool is likely to set. Reading all 62 costs 30 µs a call, these 2 µs.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD)
# Those that a tool is likely to set, for itself or for what it starts. The memory limit is set for each call anyway.
_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_STACK,
)
_KIB = 1024
_ROUNDS = 1_000


class Footprint:
    """The worker as it was before its first call."""

    def __init__(self) -> None:
        self._folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._environment = dict(_environment())
        self._handlers = [*map(signal.getsignal, _SIGNALS)]
        self._limits = [*map(resource.getrlimit, _LIMITS)]
        self._most_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._thread_count = ThreadCount()
        self._threads = self._thread_count()
        # What counted against the memory limit before the first call.
        self.used_bytes = data_bytes()
        self._resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def tidy(self, memory_limit: int) -> str:
        """End the call's descendants and put back what it changed.

        Returns why the worker must be replaced (`threads`, `environment`, `signals`, `limits`, `descriptors`, `memory`,
        `children`), or nothing.
        """
        reason = "" if _ended_descendants() else "children"
        os.fchdir(self._folder)
        os.umask(self._umask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._thread_count() > self._threads or threading.active_count() > 1:
            reason = "threads"
        elif _environment() != self._environment:
            reason = "environment"
        elif [*map(signal.getsignal, _SIGNALS)] != self._handlers:
            reason = "signals"
        elif [*map(resource.getrlimit, _LIMITS)] != self._limits:
            reason = "limits"
        elif self._descriptors() > self._most_descriptors:
            # One that leaks them would fail every later call, for most of the worker's life.
            reason = "descriptors"
        elif self._holds(memory_limit // 2):
            # The next call is entitled to its whole limit.
            reason = "memory"
        return reason

    def _descriptors(self) -> int:
        """Open ones, at least: the lowest free number. Counting them costs 20 µs, this 1 µs."""
        try:
            lowest = os.dup(self._folder)
        except OSError:
            return sys.maxsize  # not one is free
        os.close(lowest)
        return lowest

    def _holds(self, size: int) -> bool:
        """Whether the worker has kept so many bytes more. The peak is asked first: it costs 1 µs, the rest 30."""
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._resident) * _KIB
        return peak > size and data_bytes() - self.used_bytes > size


def _environment() -> dict[bytes, bytes]:
    # The mapping below os.environ: through its own front a comparison decodes every entry, 50 µs a call.
    return os.environ._data  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue, reportUnknownVariableType]


def _ended_descendants() -> bool:
    """Kill and reap until there are none; False when some cannot be ended. Costs 1 µs when there were none.

    The worker is a subreaper: who loses its parent becomes its child, in whatever session it is.
    """
    for _ in range(_ROUNDS):
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0 and not _kill_and_reap_all():
            return False
    return False


def _kill_and_reap_all() -> bool:
    for pid in children():
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except ProcessLookupError:
            continue
        except ChildProcessError:
            continue  # reaped by a thread of the tool's
        except PermissionError:
            return False
    return True
