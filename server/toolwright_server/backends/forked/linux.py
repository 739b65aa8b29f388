"""The few things that only Linux has and Python's library does not wrap: prctl, and the children of a process."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TASKS = "/proc/self/task"
# A directory has two links besides its entries.
_OWN_LINKS = 2

# In /proc/[pid]/stat behind the command's name; set before a process's descriptors are closed.
_FLAGS = 6
_PF_EXITING = 0x4

# Absent from kernels without CONFIG_PROC_CHILDREN.
_HAS_CHILDREN_FILES = Path("/proc/thread-self/children").exists()

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """From here on descendants whose parent dies become children of this process. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Get the signal when the parent's thread that forked this process dies. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


class ThreadCount:
    """Counts the threads of the process in which it was made, also those that Python does not know, in 1 µs."""

    def __init__(self) -> None:
        self._folder = os.open(_TASKS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __call__(self) -> int:
        return os.fstat(self._folder).st_nlink - _OWN_LINKS

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._folder)


def children() -> set[int]:
    """Process ids of this process's children, zombies included.

    With one thread the answer is exact: entries leave the list only when this thread reaps them.
    """
    if not _HAS_CHILDREN_FILES:
        return _children_by_scan()
    found: set[int] = set()
    for task in Path(_TASKS).iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:
            continue  # a thread that has just ended
    return found


def _children_by_scan() -> set[int]:
    own = os.getpid()
    return {pid for pid, parent in _parents() if parent == own}


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The command's name, in parentheses, may hold anything.
                yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue


def is_ending(pid: int) -> bool:
    """Whether a process has begun to end, by itself or by a signal; also when nothing can be learnt of it."""
    try:
        flags = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_FLAGS])
    except (OSError, ValueError, IndexError):
        return True
    return bool(flags & _PF_EXITING)


def data_bytes() -> int:
    """What counts against RLIMIT_DATA at this moment."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
