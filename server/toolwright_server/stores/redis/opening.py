"""Opens the shared store. Loads what it needs only when there is a url: redis-py is an extra that may be missing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from toolwright_server.limits.store import LimitStore
from toolwright_server.stores.redis.address import Address

if TYPE_CHECKING:
    from toolwright_server.stores.redis.limits import RedisLimitStore


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


async def open_limit_store(
    options: RedisLimitOptions, local: LimitStore, watch: Watch | None = None
) -> "RedisLimitStore":
    """The shared store, connected or trying to be; `local` counts while it does not answer. Raises SettingsError."""
    address = Address.parse(options.url)
    from toolwright_server.stores.redis.limits import RedisLimitStore  # noqa: PLC0415

    store = RedisLimitStore(options, address, local, watch)
    await store.open()
    return store
