"""What a process backend is told: how many workers, how much they may take, what they may see."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What programs need to find their way, and no secrets. LC_* besides.
ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV",
)  # fmt: skip


def _default_workers() -> int:
    return 4 * len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    """Sizes in bytes. `environment` names variables that workers may see besides the harmless ones."""

    workers: int
    # Workers that nested calls may add while all are busy.
    extra_workers: int
    # Calls that may wait for a worker.
    queue_limit: int = 256
    memory_limit_bytes: int = 1024**3
    calls_per_worker: int = 10_000
    environment: Sequence[str] = ()
    # Largest frame payload in either direction: above every result, argument and piece of output.
    payload_limit_bytes: int = 64 * 1024**2
    nice: int = 19

    @classmethod
    def for_this_machine(cls) -> "ProcessOptions":
        """4 workers per core, and as many again for nested calls."""
        return cls(workers=_default_workers(), extra_workers=_default_workers())

    def visible(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The part of `environment` that workers see."""
        names = {*ENVIRONMENT, *self.environment}
        return {name: value for name, value in environment.items() if name in names or name.startswith("LC_")}
