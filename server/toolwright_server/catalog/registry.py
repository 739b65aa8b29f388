"""The catalogue: every tool by (name, version), as each tenant has it. Filled once at start; refuses two tools of one
name and version.
"""

from collections.abc import Callable, Iterable, Sequence

from toolwright_server.catalog.model import DeclarationError, Tool
from toolwright_server.catalog.tenants import Tenants
from toolwright_server.errors import Reason, ToolwrightError

_NEAR = 3

Visible = Callable[[str], bool]


def everything(name: str) -> bool:
    """Hides no tool."""
    del name
    return True


class Catalog:
    """Looks tools up. An empty version means the newest; an empty tenant is nobody's, and every tool as declared."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.tenants = Tenants()
        self._tools: dict[tuple[str, str], Tool] = {}
        for tool in tools:
            if (tool.name, tool.version) in self._tools:
                raise DeclarationError(f"tool {tool.name!r} version {tool.version} is declared twice")
            self._tools[tool.name, tool.version] = tool
            newest = self._tools.get((tool.name, ""))
            if newest is None or newest.version_key() < tool.version_key():
                self._tools[tool.name, ""] = tool

    def resolve(self, name: str, version: str = "", visible: Visible = everything, tenant: str = "") -> Tool:
        """One tool. Raises TOOL_NOT_FOUND, naming near ones; what is hidden or not visible is as if not there."""
        tool = self._tools.get((name, version))
        settings = self.tenants.of(tenant, name)
        if tool is None or not visible(name) or (settings is not None and settings.hidden):
            raise self._unknown(name, version, lambda known: visible(known) and not self.tenants.hides(tenant, known))
        return tool if settings is None else self.tenants.view(tool, settings)

    def offered(self, name: str, visible: Visible = everything, tenant: str = "") -> Tool | None:
        """The newest version of a tool, if a call of it could be let in: visible, not hidden, turned on."""
        tool = self._tools.get((name, ""))
        if tool is None or not visible(name) or self.tenants.hides(tenant, name):
            return None
        tool = self._as_offered(tool, tenant)
        return tool if tool.terms is None or (tool.terms.enabled and not tool.terms.misfit) else None

    def newest(self, tenant: str = "") -> Sequence[Tool]:
        """The newest version of every tool that is not hidden, by name."""
        found = sorted((tool for (_, version), tool in self._tools.items() if not version), key=lambda tool: tool.name)
        return [self._as_offered(tool, tenant) for tool in found if not self.tenants.hides(tenant, tool.name)]

    def versions(self, name: str) -> Sequence[Tool]:
        """Every version of a tool, as declared."""
        return [tool for (known, version), tool in self._tools.items() if known == name and version]

    def all(self) -> Sequence[Tool]:
        """Every version of every tool."""
        return [tool for (_, version), tool in self._tools.items() if version]

    def _as_offered(self, tool: Tool, tenant: str) -> Tool:
        settings = self.tenants.of(tenant, tool.name)
        return tool if settings is None else self.tenants.view(tool, settings)

    def _unknown(self, name: str, version: str, visible: Visible) -> ToolwrightError:
        if (name, "") in self._tools and visible(name):
            versions = ", ".join(known for (other, known) in self._tools if other == name and known)
            return ToolwrightError(
                Reason.TOOL_NOT_FOUND, f"tool {name!r} has no version {version[:32]!r}; it has {versions}"
            )
        near = self._near(name, visible)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        return ToolwrightError(Reason.TOOL_NOT_FOUND, f"there is no tool {name[:128]!r}{hint}")

    def _near(self, name: str, visible: Visible) -> list[str]:
        import difflib  # noqa: PLC0415 (only needed when a call is wrong)

        names = [known for known, version in self._tools if not version and visible(known)]
        return difflib.get_close_matches(name[:128], names, _NEAR)
