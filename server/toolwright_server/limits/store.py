"""What the limiter needs kept: counters, in a Protocol of five verbs. One suite of tests holds for every store."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from toolwright_server.limits.model import Check, Reading, Taking


class LimitStore(Protocol):
    """Counts. Each verb is atomic over all its checks, and exact: never more than the limit in any window."""

    async def take(self, checks: Sequence[Check], token: str) -> Taking:
        """Take one from every counter, or from none. `token` names the call: places of running calls are held under it.

        A token that holds its place already is let in again and takes nothing more. Never raises: a store that does
        not answer in time decides by each check's `fail`.
        """
        ...

    async def give_back(self, checks: Sequence[Check], token: str) -> None:
        """Undo a whole taking: the call was refused later, or served from a cache, and nothing ran.

        Gives back what `token` took and nothing else: nothing twice, nothing that it never got.
        """
        ...

    async def release(self, checks: Sequence[Check], token: str) -> None:
        """The call has ended: its places are free; what counts calls that were begun stays."""
        ...

    async def renew(self, checks: Sequence[Check], tokens: Sequence[str]) -> None:
        """These calls still run: the places that they hold do not expire."""
        ...

    async def read(self, checks: Sequence[Check]) -> Sequence[Reading]:
        """The counters as they stand, without taking anything."""
        ...


@runtime_checkable
class ImmediateStore(LimitStore, Protocol):
    """A store in process, whose verbs need nobody's answer: the same ones, without a coroutine. They never raise."""

    def take_now(self, checks: Sequence[Check], token: str) -> Taking:
        """As `take`."""
        ...

    def give_back_now(self, checks: Sequence[Check], token: str) -> None:
        """As `give_back`."""
        ...

    def release_now(self, checks: Sequence[Check], token: str) -> None:
        """As `release`."""
        ...
