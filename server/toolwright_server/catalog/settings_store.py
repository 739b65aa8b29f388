"""What tool settings need kept: a Protocol of three verbs. One suite of tests holds for every store."""

from collections.abc import Sequence
from typing import Final, Protocol

from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.identity import Caller

TOPIC: Final = "tool_settings"
"""What servers listen for, to hear of changes."""


class ToolSettingsStore(Protocol):
    """Keeps tool settings. Each verb raises STORE_UNAVAILABLE when it cannot answer."""

    async def get(self, tenant: str, tool: str) -> ToolSettings | None:
        """The settings of one tool; None when there never were any."""
        ...

    async def list(self, after_revision: int, limit: int) -> Sequence[ToolSettings]:
        """At most `limit` settings whose revision is higher, of all tenants, in its order. Whoever goes on behind the
        last one misses none: revisions become visible in their order.
        """
        ...

    async def put(self, settings: ToolSettings, fields: Sequence[str], by: Caller) -> ToolSettings | None:
        """Keep settings in place of those with the same revision (0: of none); as they are then, with a new one.

        Durable when it returns. None: somebody else has changed them meanwhile. `fields` are what is different, and go
        into the audit trail with `by`. Raises STORE_UNAVAILABLE with `outcome` unknown when it may have been kept.
        """
        ...
