"""Leases in memory, for servers that share one process: tests, and a server that keeps its record nowhere else."""

import time
from collections.abc import Callable, Sequence

from toolwright_server.execution.recovery.leases import Lease


class MemoryLeases:
    """A LeaseStore. `clock` is the one that all leases are measured by, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # By server: its epoch and until when the lease holds.
        self._leases: dict[str, tuple[int, float]] = {}

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is there, run out or not."""
        found = self._leases.get(lease.server_id)
        return found is not None and found[0] == lease.epoch

    async def register(self, lease: Lease, seconds: float) -> None:
        self._leases[lease.server_id] = (lease.epoch, self._clock() + seconds)

    async def renew(self, lease: Lease, seconds: float) -> bool:
        if not self.holds(lease):
            return False
        self._leases[lease.server_id] = (lease.epoch, self._clock() + seconds)
        return True

    async def is_held(self, server_id: str) -> bool:
        return server_id in self._leases

    async def expired(self, own: Lease) -> Sequence[Lease]:
        now = self._clock()
        return [
            Lease(server_id, epoch)
            for server_id, (epoch, until) in self._leases.items()
            if until < now and server_id != own.server_id
        ]

    async def end(self, dead: Lease) -> bool:
        found = self._leases.get(dead.server_id)
        if found is None or found[0] != dead.epoch or found[1] >= self._clock():
            return False
        del self._leases[dead.server_id]
        return True

    async def release(self, lease: Lease) -> None:
        if self.holds(lease):
            del self._leases[lease.server_id]
