"""Tool settings in memory: gone with the process."""

import time as clocks
from collections.abc import Callable, Sequence
from dataclasses import replace

from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.identity import Caller


class MemoryToolSettingsStore:
    """A ToolSettingsStore in a dict. `clock`: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = clocks.time) -> None:
        self._settings: dict[tuple[str, str], ToolSettings] = {}
        self._revision = 0
        self._clock = clock

    async def get(self, tenant: str, tool: str) -> ToolSettings | None:
        return self._settings.get((tenant, tool))

    async def list(self, after_revision: int, limit: int) -> Sequence[ToolSettings]:
        found = [each for each in self._settings.values() if each.revision > after_revision]
        return sorted(found, key=lambda each: each.revision)[:limit]

    async def put(self, settings: ToolSettings, fields: Sequence[str], by: Caller) -> ToolSettings | None:
        del fields
        key = settings.tenant, settings.tool
        current = self._settings.get(key)
        if (0 if current is None else current.revision) != settings.revision:
            return None
        self._revision += 1
        kept = replace(settings, revision=self._revision, update_time=self._clock(), updater=by.principal)
        self._settings[key] = kept
        return kept
