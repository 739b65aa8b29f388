"""Opens the shared store. Loads what it needs only when there is a url: redis-py is an extra that may be missing."""

from typing import TYPE_CHECKING

from toolwright_server.limits.store import LimitStore
from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.options import RedisLimitOptions, Watch

if TYPE_CHECKING:
    from toolwright_server.stores.redis.limits import RedisLimitStore


async def open_limit_store(
    options: RedisLimitOptions, local: LimitStore, watch: Watch | None = None
) -> "RedisLimitStore":
    """The shared store, connected or trying to be; `local` counts while it does not answer. Raises SettingsError."""
    address = Address.parse(options.url)
    from toolwright_server.stores.redis.limits import RedisLimitStore  # noqa: PLC0415

    store = RedisLimitStore(options, address, local, watch)
    await store.open()
    return store
