"""Keeps the catalogue as the database has it: every setting at the start, then what has changed. Decides nothing."""

import logging
from typing import Final

from toolwright_server.catalog.settings_store import ToolSettingsStore
from toolwright_server.catalog.tenants import Tenants
from toolwright_server.freshness import Freshness

_logger = logging.getLogger(__name__)

_PAGE: Final = 1_000


class SettingsWatch:
    """`load` once before the first call; `freshness` then looks for changes."""

    def __init__(self, store: ToolSettingsStore, tenants: Tenants) -> None:
        self._store = store
        self._tenants = tenants
        # Of what was read here. What this server keeps itself comes again: others may have committed before it.
        self._seen = 0
        self._is_blind = False
        self.freshness = Freshness("tool settings", self.load, self._blind)

    async def load(self) -> None:
        """Adopt what has changed since the last time. Raises STORE_UNAVAILABLE."""
        while True:
            found = await self._store.list(self._seen, _PAGE)
            self._tenants.adopt(found)
            if found:
                self._seen = found[-1].revision
            if len(found) < _PAGE:
                break
        if self._is_blind:
            self._is_blind = False
            _logger.info("tool settings can be read again")

    def _blind(self) -> None:
        """What is known stays in force: a tool with side effects cannot be called without the database anyway."""
        if not self._is_blind:
            self._is_blind = True
            _logger.warning("tool settings could not be read for a minute: changes on other servers are not known here")
