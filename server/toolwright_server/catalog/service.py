"""The ToolCatalogService: reads a request, asks the catalogue or the settings' registry, writes the answer."""

from collections.abc import Callable
from functools import partial
from typing import Any

from toolwright.v1 import tool_catalog_pb2 as pb
from toolwright_server.catalog import wire
from toolwright_server.catalog.model import Effect, FallbackPolicy, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.schema import VIOLATIONS_LIMIT
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.catalog.settings_registry import ToolSettingsRegistry
from toolwright_server.catalog.terms import completed
from toolwright_server.conditions import LABELS, matches
from toolwright_server.errors import invalid
from toolwright_server.identity import Caller
from toolwright_server.rpc import filters, lists
from toolwright_server.rpc.call import RpcCall

FILTER_FIELDS = {
    "name": filters.TEXT,
    "category": filters.TEXT,
    "effect": filters.choice(Effect.__members__, "EFFECT_"),
}
PAGE_DEFAULT = 100


class ToolCatalogService:
    """One method per rpc of toolwright.v1.ToolCatalogService.

    `timeout_of` gives a tool's timeout in seconds; `read_arguments` reads the oneof of a request. Tools outside the
    scopes of a caller's credential do not exist for it.
    """

    def __init__(
        self,
        catalog: Catalog,
        timeout_of: Callable[[Tool], float],
        read_arguments: Callable[[Any], dict[str, Any]],
        settings: ToolSettingsRegistry,
    ) -> None:
        self._catalog = catalog
        self._timeout_of = timeout_of
        self._read_arguments = read_arguments
        self._settings = settings

    async def ListTools(self, request: pb.ListToolsRequest, call: RpcCall) -> pb.ListToolsResponse:
        size = lists.page_size(request.page_size, PAGE_DEFAULT)
        condition = filters.parse(request.filter, FILTER_FIELDS)
        asked = (call.method, request.filter)
        start = lists.page_start(request.page_token, *asked)
        visible = call.caller.may_call
        behind = (tool for tool in self._catalog.newest(call.caller.tenant) if tool.name > start and visible(tool.name))
        found = [tool for tool in behind if matches(condition, partial(_value, tool))]
        more = lists.page_token(found[size - 1].name, *asked) if len(found) > size else ""
        return pb.ListToolsResponse(tools=[self._message(tool, call) for tool in found[:size]], next_page_token=more)

    async def GetTool(self, request: pb.GetToolRequest, call: RpcCall) -> pb.GetToolResponse:
        return pb.GetToolResponse(tool=self._message(self._resolved(request, call), call))

    async def ValidateArguments(
        self, request: pb.ValidateArgumentsRequest, call: RpcCall
    ) -> pb.ValidateArgumentsResponse:
        tool = self._resolved(request, call)
        arguments = self._read_arguments(request)
        wrong = [] if tool.terms is None else completed(tool.terms, arguments)
        return wire.validation([*wrong, *tool.input_schema.violations(arguments)][:VIOLATIONS_LIMIT])

    async def GetToolSettings(self, request: pb.GetToolSettingsRequest, call: RpcCall) -> pb.GetToolSettingsResponse:
        found = await self._settings.get(request.tenant_id, request.tool, call.caller)
        return pb.GetToolSettingsResponse(settings=self._settings_message(found))

    async def UpdateToolSettings(
        self, request: pb.UpdateToolSettingsRequest, call: RpcCall
    ) -> pb.UpdateToolSettingsResponse:
        kept = await self._settings.update(wire.settings_change(request), call.caller)
        return pb.UpdateToolSettingsResponse(settings=self._settings_message(kept))

    def _resolved(self, request: pb.GetToolRequest | pb.ValidateArgumentsRequest, call: RpcCall) -> Tool:
        if not request.tool:
            raise invalid("tool", "is required")
        return self._catalog.resolve(request.tool, request.tool_version, call.caller.may_call, call.caller.tenant)

    def _message(self, tool: Tool, call: RpcCall) -> pb.Tool:
        return wire.tool(tool, self._timeout_of(tool), self._fallback(tool, call.caller))

    def _fallback(self, tool: Tool, caller: Caller) -> FallbackPolicy | None:
        """What may answer in the tool's place to this caller: no tool that does not exist for it, or is turned off."""
        policy = tool.fallback
        if policy is None or not policy.tool:
            return policy
        return policy if self._catalog.offered(policy.tool, caller.may_call, caller.tenant) is not None else None

    def _settings_message(self, settings: ToolSettings) -> pb.ToolSettings:
        return wire.settings(settings, [tool.input_schema for tool in self._catalog.versions(settings.tool)])


def _value(tool: Tool, field: str) -> str | None:
    if field.startswith(LABELS):
        return tool.labels.get(field.removeprefix(LABELS))
    return tool.effect.name if field == "effect" else str(getattr(tool, field))
