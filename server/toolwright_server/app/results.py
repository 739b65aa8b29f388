"""Where one server keeps answers that calls share, put together: its memory, and the store that all servers share."""

from collections.abc import Awaitable, Callable

from toolwright_server.execution.recall.engine import Results
from toolwright_server.settings import Settings
from toolwright_server.stores.memory.results import MemoryResultStore, ResultBounds
from toolwright_server.stores.redis.opening import open_result_store
from toolwright_server.telemetry import Metrics


def result_store(settings: Settings) -> tuple[str, str]:
    """The setting that says where results are shared, and its url; empty: nowhere."""
    own = settings.cache_redis_url.get_secret_value()
    return ("cache_redis_url", own) if own else ("redis_url", settings.redis_url.get_secret_value())


async def open_results(settings: Settings, metrics: Metrics) -> tuple[Results, Callable[[], Awaitable[None]]]:
    """The stores, and what closes them. Raises SettingsError when the store's address cannot be used."""
    own = MemoryResultStore(ResultBounds(settings.cache_entries, settings.cache_bytes))
    metrics.observe("toolwright.cache.entries", lambda: len(own))
    metrics.observe("toolwright.cache.size", lambda: own.size_bytes)
    name, url, limit = *result_store(settings), settings.cache_entry_limit_bytes
    if not url:
        return Results(own, limit_bytes=limit), _nothing
    shared = await open_result_store(url, settings.redis_timeout_milliseconds, name)
    metrics.observe("toolwright.cache.store.up", lambda: shared.is_up)
    return Results(own, shared, limit), shared.close


async def _nothing() -> None:
    """A store in process ends with it."""
