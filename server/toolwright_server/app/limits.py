"""The limits of one server, put together: rules and their file, counters, the line of those who wait."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from toolwright_server.catalog.registry import Catalog
from toolwright_server.limits.limiter import Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.model import Reading
from toolwright_server.limits.reloading import RuleFile
from toolwright_server.limits.store import LimitStore
from toolwright_server.records.ledger.quota import Readings
from toolwright_server.settings import Settings
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.stores.redis.opening import open_limit_store
from toolwright_server.stores.redis.options import RedisLimitOptions
from toolwright_server.telemetry import Metrics

if TYPE_CHECKING:
    from toolwright_server.stores.redis.limits import RedisLimitStore

# Places come free on other servers as well, which tell nobody.
POLL_SECONDS: Final = 0.1
# A place is renewed so often within its lease.
_RENEWALS: Final = 3


class Limits:
    """Opened before the first call is served, closed after the last one was settled."""

    def __init__(self, file: RuleFile, limiter: Limiter, shared: "RedisLimitStore | None") -> None:
        self._file = file
        # What several servers count in together, and keep circuits in.
        self.shared = shared
        self.rulebook = file.rulebook
        self.limiter = limiter

    @classmethod
    async def open(cls, settings: Settings, metrics: Metrics) -> "Limits":
        """Read the rules and reach the shared store, if there is one; follow both from now on.

        Raises SettingsError when the limits file or the store's address cannot be used.
        """
        path = Path(settings.limits_file) if settings.limits_file else None
        file = RuleFile(path, settings.limits_file_check_seconds, refused=metrics.limits_file_refused)
        url, store, shared, poll = settings.redis_url.get_secret_value(), MemoryLimitStore(), None, None
        counters: LimitStore = store
        if url:
            lease = settings.redis_lease_seconds
            options = RedisLimitOptions(url, settings.server_id, settings.redis_timeout_milliseconds, lease)
            counters = shared = await open_limit_store(options, store, metrics)
            poll = POLL_SECONDS
        limiter = Limiter(
            counters,
            file.rulebook,
            Line(settings.limits_queue_limit, poll),
            metrics,
            renew_seconds=settings.redis_lease_seconds / _RENEWALS,
        )
        limits = cls(file, limiter, shared)
        file.start()
        limiter.start()
        return limits

    async def close(self) -> None:
        """Tell the counters of the last calls that have ended."""
        await self._file.close()
        await self.limiter.close()
        if self.shared is not None:
            await self.shared.close()


def standing(limiter: Limiter, catalog: Catalog) -> Readings:
    """What a quota shows: the limits that hold for a caller in all categories that there are for its tenant."""

    async def readings(tenant: str, user: str) -> Sequence[Reading]:
        categories = sorted({tool.category for tool in catalog.newest(tenant)})
        return await limiter.quota(tenant, user, [("", category) for category in categories])

    return readings
