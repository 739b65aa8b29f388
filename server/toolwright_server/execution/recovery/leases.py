"""Who is alive: keeps this server's lease, notices its loss, and ends the leases of servers that do not keep theirs.

What dead servers left behind is settled by takeover.py. Never decides by looking at another machine's clock.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from toolwright_server.errors import ToolwrightError

_logger = logging.getLogger(__name__)

# A lease is renewed so often within its length; after a failure sooner.
_RENEWALS: Final = 3
_RETRY_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Lease:
    """One process of one server: `epoch` tells it from earlier ones of the same name."""

    server_id: str
    epoch: int


class LeaseStore(Protocol):
    """Keeps leases. Times are measured by one clock for all servers, the store's. Raises STORE_UNAVAILABLE."""

    async def register(self, lease: Lease, seconds: float) -> None:
        """Begin a lease. One of the same name ends with it, and so do all others where only one server may be."""
        ...

    async def renew(self, lease: Lease, seconds: float) -> bool:
        """Let the lease hold for so long from now, also when it had run out; False when somebody ended it."""
        ...

    async def is_held(self, server_id: str) -> bool:
        """Whether a process of this server has a lease that nobody has ended, run out or not."""
        ...

    async def expired(self, own: Lease) -> Sequence[Lease]:
        """Leases of others that have run out."""
        ...

    async def end(self, dead: Lease) -> bool:
        """End a lease that has run out: from here on its server writes nothing any more. False when it was renewed or
        ended meanwhile, or when the own one was.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Give the own lease back."""
        ...


class LeaseKeeper:
    """See the module. `recover` settles what dead servers left behind, and is told whether one may have died since the
    last time; `lost` is called once, when the own lease is gone: whatever still runs here is somebody else's to settle,
    and the process should end.
    """

    def __init__(
        self,
        store: LeaseStore,
        own: Lease,
        seconds: float,
        *,
        recover: Callable[[bool], Awaitable[None]],
        lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._own = own
        self._seconds = seconds
        self._recover = recover
        self._lost = lost
        self._clock = clock
        self._pause = pause
        self._renewed = clock()
        # Since when all renewals came in time. None: the last one failed.
        self._steady: float | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_lost = False
        self.ended = 0

    @property
    def held(self) -> bool:
        """Whether the lease holds as far as this server can know, by its own clock."""
        return not self.is_lost and self._clock() < self._renewed + self._seconds

    async def start(self) -> None:
        """Register, settle what an earlier process of the same name left behind, and keep the lease from now on.

        Raises STORE_UNAVAILABLE.
        """
        began = self._clock()
        await self._store.register(self._own, self._seconds)
        self._renewed = self._steady = began
        await self._recover(True)
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="lease")

    async def stop(self) -> None:
        """Look after nobody any more. The lease holds on for its length."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def close(self) -> None:
        """Give the lease back, after the last record was written."""
        await self.stop()
        if self.is_lost:
            return
        try:
            await self._store.release(self._own)
        except ToolwrightError as error:
            _logger.warning("the lease was not given back and will run out: %s", error)

    async def tick(self) -> None:
        """Renew the lease; end those of others that ran out, and have settled what nobody holds a lease for."""
        if not await self._renew() or not self._may_judge():
            return
        ended = self.ended
        try:
            for dead in await self._store.expired(self._own):
                if await self._store.end(dead):
                    self.ended += 1
                    _logger.warning(
                        "the lease of server %s (epoch %d) ran out: it is taken for dead", dead.server_id, dead.epoch
                    )
            await self._recover(self.ended > ended)
        except ToolwrightError as error:
            _logger.warning("dead servers could not be looked for: %s", error)

    async def _keep(self) -> None:
        while not self.is_lost:
            await self._pause(self._seconds * (_RETRY_SHARE if self._steady is None else 1 / _RENEWALS))
            try:
                await self.tick()
            except Exception:
                # A defect here must not end the renewals: every other server would take this one for dead.
                _logger.exception("a look at the leases failed")

    async def _renew(self) -> bool:
        began = self._clock()
        try:
            kept = await self._store.renew(self._own, self._seconds)
        except ToolwrightError as error:
            if self._steady is not None:
                _logger.warning("the lease could not be renewed: %s", error)
            self._steady = None
            return False
        if not kept:
            self._lose()
            return False
        if self._steady is None:
            _logger.info("the lease is renewed again")
        if self._steady is None or began - self._renewed >= self._seconds:
            # Whatever made this one late (the store, the machine) may have made the others late as well.
            self._steady = began
        self._renewed = began
        return True

    def _may_judge(self) -> bool:
        """Whether others have had time to renew theirs: after an outage, or a machine's sleep, all of them are late."""
        return self._steady is not None and self._clock() - self._steady >= self._seconds

    def _lose(self) -> None:
        self.is_lost = True
        _logger.error(
            "the lease of server %s (epoch %d) was ended by another server: this one was taken for dead (it stood "
            "still, or could not reach the store), or a second one was started under its name",
            self._own.server_id,
            self._own.epoch,
        )
        self._lost()
