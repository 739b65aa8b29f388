"""Opens the shared store. Loads what it needs only when there is a url: redis-py is an extra that may be missing."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from toolwright_server.execution.circuits.model import Change
from toolwright_server.limits.store import LimitStore
from toolwright_server.stores.memory.circuits import MemoryCircuitStore
from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.options import RedisLimitOptions, Watch

if TYPE_CHECKING:
    from toolwright_server.stores.redis.circuits import RedisCircuitStore
    from toolwright_server.stores.redis.limits import RedisLimitStore


async def open_limit_store(
    options: RedisLimitOptions, local: LimitStore, watch: Watch | None = None
) -> "RedisLimitStore":
    """The shared store, connected or trying to be; `local` counts while it does not answer. Raises SettingsError."""
    # More than a second the first time, in which the event loop has other things to do.
    address, made = await asyncio.to_thread(_load, options.url)
    store = made(options, address, local, watch)
    await store.open()
    return store


def circuits_of(
    shared: "RedisLimitStore", local: MemoryCircuitStore, changed: Callable[[Change], object], lease_seconds: float
) -> "RedisCircuitStore":
    """The circuits in a store that was opened; `local` keeps them while it does not answer."""
    from toolwright_server.stores.redis.circuits import RedisCircuitStore  # noqa: PLC0415

    return RedisCircuitStore(shared.link, local, changed, lease_seconds)


def _load(url: str) -> "tuple[Address, type[RedisLimitStore]]":
    address = Address.parse(url)
    from toolwright_server.stores.redis.limits import RedisLimitStore  # noqa: PLC0415 (see the module)

    return address, RedisLimitStore
