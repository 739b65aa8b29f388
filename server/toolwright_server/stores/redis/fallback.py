"""What each check's `fail` says while the shared store does not answer. Counts in process what may be counted there."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from toolwright_server.limits.model import Check, Fail, Reading, Taking
from toolwright_server.limits.store import LimitStore

# Checks that are kept with their share; then all are made anew.
_SHARES: Final = 4096


class Fallback:
    """`local` counts for rules that say so. `servers` tells how many servers share each limit, at least 1."""

    def __init__(self, local: LimitStore, servers: Callable[[], int], retry_seconds: Callable[[], float]) -> None:
        self._local = local
        self._servers = servers
        self._retry_seconds = retry_seconds
        # By token: what was taken in process.
        self._taken: dict[str, Sequence[Check]] = {}
        self._shares: dict[Check, Check] = {}
        self._shared_by = 1

    async def take(self, checks: Sequence[Check], token: str) -> Taking:
        """Let in by what is open, refuse by what is closed, count what is local; all or nothing."""
        for place, check in enumerate(checks):
            if check.fail is Fail.CLOSED and not check.shadow:
                readings = await self.read(checks)
                return Taking(readings, readings[place], unavailable=True)
        shares = self._taken.get(token) or self._local_shares(checks)
        if not shares:
            return Taking([_unread(check) for check in checks])
        taking = await self._local.take(shares, token)
        if taking.refused is None:
            self._taken[token] = shares
        return Taking(self._in_order(checks, taking.readings), taking.refused, taking.over)

    async def read(self, checks: Sequence[Check]) -> Sequence[Reading]:
        """What is known here: the local counters, and nothing of the others."""
        shares = self._local_shares(checks)
        readings = await self._local.read(shares) if shares else ()
        wait = self._retry_seconds()
        return [
            replace(reading, reset_seconds=wait) if reading.check.fail is Fail.CLOSED else reading
            for reading in self._in_order(checks, readings)
        ]

    async def release(self, token: str) -> None:
        """The call has ended, if it was counted here."""
        shares = self._taken.pop(token, None)
        if shares is not None:
            await self._local.release(shares, token)

    async def give_back(self, token: str) -> None:
        """Undo a taking, if it was counted here."""
        shares = self._taken.pop(token, None)
        if shares is not None:
            await self._local.give_back(shares, token)

    async def renew(self, checks: Sequence[Check], tokens: Sequence[str]) -> None:
        """These calls still run."""
        if self._taken:
            await self._local.renew(self._local_shares(checks), [token for token in tokens if token in self._taken])

    def _local_shares(self, checks: Sequence[Check]) -> list[Check]:
        servers = max(1, self._servers())
        if servers != self._shared_by or len(self._shares) > _SHARES:
            self._shares.clear()
            self._shared_by = servers
        return [self._share(check, servers) for check in checks if check.fail is Fail.LOCAL]

    def _share(self, check: Check, servers: int) -> Check:
        """The same check for one of so many servers: rounded up, and at least 1 where there was a limit above 0."""
        found = self._shares.get(check)
        if found is None:
            found = self._shares[check] = replace(check, limit=-(-check.limit // servers))
        return found

    @staticmethod
    def _in_order(checks: Sequence[Check], local: Sequence[Reading]) -> list[Reading]:
        counted = iter(local)
        return [next(counted, _unread(check)) if check.fail is Fail.LOCAL else _unread(check) for check in checks]


def _unread(check: Check) -> Reading:
    """Of a counter that nobody can read."""
    return Reading(check, 0, 0.0)
