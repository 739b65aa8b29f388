"""What the cache needs kept: answers, in a Protocol of two verbs. One suite of tests holds for every store."""

from dataclasses import dataclass
from typing import Protocol

from toolwright_server.execution.recall.key import Key


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer. `time`: when the tool gave it, in seconds since the epoch; for which execution, and for whom."""

    result: bytes
    time: float
    execution_id: str
    user: str


class ResultStore(Protocol):
    """Keeps answers for a while, bounded: any may be forgotten at any time. Never raises."""

    async def get(self, key: Key) -> Kept | None:
        """The answer; None when there is none, or when the store does not say so in time."""
        ...

    def put(self, key: Key, kept: Kept, ttl_seconds: float) -> None:
        """Keep an answer in place of an earlier one. Never waits; one that is too large is not kept."""
        ...


class ImmediateResultStore(ResultStore, Protocol):
    """A store in process, which needs nobody's answer."""

    def get_now(self, key: Key) -> Kept | None:
        """As `get`, without a coroutine."""
        ...
