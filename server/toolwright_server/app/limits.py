"""The limits of one server, put together: rules and their file, counters, the line of those who wait."""

from pathlib import Path

from toolwright_server.limits.limiter import Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.reloading import RuleFile
from toolwright_server.settings import Settings
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.telemetry import Metrics


class Limits:
    """Started before the first call is served, closed after the last one was settled.

    Raises SettingsError when the limits file cannot be used.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        path = Path(settings.limits_file) if settings.limits_file else None
        self._file = RuleFile(path, settings.limits_file_check_seconds, refused=metrics.limits_file_refused)
        self.rulebook = self._file.rulebook
        self.limiter = Limiter(MemoryLimitStore(), self.rulebook, Line(settings.limits_queue_limit), metrics)

    def start(self) -> None:
        """Follow the file and renew what must be renewed. Needs a running loop."""
        self._file.start()
        self.limiter.start()

    async def close(self) -> None:
        """Tell the counters of the last calls that have ended."""
        await self._file.close()
        await self.limiter.close()
