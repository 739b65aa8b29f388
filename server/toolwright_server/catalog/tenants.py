"""What tenants' settings make of the catalogue: asked by every call, on the event loop, without waiting for anything.

Holds all settings of the database, a few hundred bytes each; what is computed of them is kept for as many as fit.
"""

from collections.abc import Iterable
from typing import Final

from toolwright_server.catalog.model import Tool
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.catalog.terms import on_terms

# Tools on a tenant's terms, each with a compiled schema where arguments are fixed: some 10 KB.
VIEWS_LIMIT: Final = 4_096


class Tenants:
    """See the module. Empty until it is told of settings."""

    __slots__ = ("_limit", "_settings", "_views")

    def __init__(self, views_limit: int = VIEWS_LIMIT) -> None:
        self._settings: dict[tuple[str, str], ToolSettings] = {}
        self._views: dict[tuple[str, str, str], Tool] = {}
        self._limit = views_limit

    def __len__(self) -> int:
        """How many settings there are."""
        return len(self._settings)

    def adopt(self, changed: Iterable[ToolSettings]) -> None:
        """Let settings hold from the next call on; what is older than what is known already changes nothing."""
        for settings in changed:
            key = settings.tenant, settings.tool
            known = self._settings.get(key)
            if known is None or known.revision < settings.revision:
                self._settings[key] = settings
                for view in [view for view in self._views if view[:2] == key]:
                    del self._views[view]

    def hides(self, tenant: str, tool: str) -> bool:
        """Whether the tenant is not to know of the tool."""
        settings = self._settings.get((tenant, tool))
        return settings is not None and settings.hidden is True

    def of(self, tenant: str, tool: str) -> ToolSettings | None:
        """What the tenant has set for a tool, as far as this server knows; None: nothing, ever."""
        return self._settings.get((tenant, tool))

    def view(self, tool: Tool, settings: ToolSettings) -> Tool:
        """The tool as the tenant of these settings has it."""
        key = settings.tenant, tool.name, tool.version
        view = self._views.get(key)
        if view is None:
            if len(self._views) >= self._limit:
                del self._views[next(iter(self._views))]
            view = self._views[key] = on_terms(tool, settings)
        return view
