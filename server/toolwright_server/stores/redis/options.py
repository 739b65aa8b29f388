"""What the shared store is told when it is opened: where it is, who asks, and whom it tells how it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Watch(Protocol):
    """Whom the store tells how it is; telemetry's Metrics is one."""

    def limit_store_round_trip(self, seconds: float) -> None:
        """The store has answered one pipeline."""
        ...

    def limit_store_decided(self, fail: str) -> None:
        """A call was decided without the store: by rules that are open, closed or local."""
        ...

    def observe(self, name: str, callback: Callable[[], float]) -> None:
        """Show what `callback` reads, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class RedisLimitOptions:
    """`server_id` is this server's name among those that share the store."""

    url: str = field(repr=False)
    server_id: str
    # What a call waits for the store at most.
    timeout_milliseconds: float
    # How long the place of a running call holds that nobody renews.
    lease_seconds: float
