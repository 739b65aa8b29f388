"""The artifacts of one server, put together: where their bytes lie, how long, and who erases them."""

from typing import Self

from toolwright_server.artifacts.keeper import ArtifactKeeper
from toolwright_server.artifacts.model import ArtifactLimits
from toolwright_server.artifacts.sweeping import ArtifactRows, Sweep
from toolwright_server.settings import Settings
from toolwright_server.stores.files.artifacts import FileArtifacts

_HOUR_SECONDS = 3_600.0
_DAY_SECONDS = 86_400.0


class Artifacts:
    """The keeper, and whoever sweeps behind it."""

    def __init__(self, keeper: ArtifactKeeper, sweep: Sweep) -> None:
        self.keeper = keeper
        self.sweep = sweep

    @classmethod
    def open(cls, settings: Settings, rows: ArtifactRows) -> Self:
        """Begin, with a sweep. Raises SettingsError when the folder cannot be used."""
        limits = ArtifactLimits(
            settings.artifact_limit_bytes, settings.artifacts_per_execution_limit, settings.artifacts_total_bytes
        )
        keeper = ArtifactKeeper(FileArtifacts.open(settings.artifact_path), limits, _keep_seconds(settings))
        artifacts = cls(keeper, Sweep(keeper, rows, settings.retention_interval_seconds))
        artifacts.sweep.start()
        return artifacts

    async def close(self) -> None:
        """Every execution was settled."""
        await self.sweep.close()
        await self.keeper.close()


def _keep_seconds(settings: Settings) -> float | None:
    """With the payload at the latest."""
    limits = (
        settings.artifact_retention_hours * _HOUR_SECONDS,
        settings.retention_payloads_days * _DAY_SECONDS,
        settings.retention_executions_days * _DAY_SECONDS,
    )
    return min((seconds for seconds in limits if seconds), default=None)
