"""Sees to it that dead workers leave nobody behind: kills what they orphaned, reaps it, and only then says so.

Works because the fork server is a subreaper: its children are its workers, and whatever dead workers left, also in
sessions of its own. The living workers are subreapers themselves.
"""

import os
import signal
from dataclasses import dataclass, field

from toolwright_server.backends.forked.linux import children


@dataclass(slots=True)
class Burial:
    """A worker that is dead and reaped. `held_by` are orphans that may not be killed (another user's)."""

    pid: int
    status: int
    held_by: set[int] = field(default_factory=set[int])


class Orphanage:
    """The fork server's children: workers that are known, and everybody else, who must go."""

    def __init__(self) -> None:
        self.workers: set[int] = set()
        self._burials: list[Burial] = []
        self._told: set[int] = set()
        self._unkillable: set[int] = set()

    def kill(self, pid: int) -> None:
        """Kill a worker and its process group."""
        if pid in self.workers:
            self._told.add(pid)
            _hurry(pid)
            _kill_group(pid)

    @property
    def ending(self) -> bool:
        """Whether somebody was killed who is not buried yet."""
        return bool(self._told or self._burials)

    def kill_all(self) -> None:
        """Kill every worker."""
        for pid in self.workers:
            _kill_group(pid)

    def collect(self) -> list[Burial]:
        """Reap what is dead, kill what is orphaned. Returns the workers of whom nothing is left any more."""
        while self._reap():
            pass
        if not self._burials:
            return []
        orphans = children() - self.workers
        self._unkillable &= orphans
        for pid in orphans - self._unkillable:
            if not _killed(pid):
                self._unkillable.add(pid)
                for burial in self._burials:
                    burial.held_by.add(pid)
        if orphans - self._unkillable:
            return []  # their deaths are signalled too
        over = [burial for burial in self._burials if not burial.held_by & orphans]
        self._burials = [burial for burial in self._burials if burial.held_by & orphans]
        return over

    def _reap(self) -> bool:
        try:
            # Peek only: until it is reaped a worker's number, and its group's, belong to nobody else.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if found is None:
            return False
        pid = found.si_pid
        if pid in self.workers:
            _kill_group(pid)
            self.workers.discard(pid)
            self._told.discard(pid)
            self._burials.append(Burial(pid, os.waitpid(pid, 0)[1]))
        else:
            os.waitpid(pid, 0)
        return True


def _hurry(pid: int) -> None:
    """A process needs the processor to die, and a worker comes last there. Only privileged servers may change that."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, 0)
    except OSError:
        pass


def _kill_group(pid: int) -> None:
    _killed(pid)
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _killed(pid: int) -> bool:
    """Send SIGKILL; False when it may not be sent."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True
