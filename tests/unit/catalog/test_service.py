"""The lists of the catalogue's service: which tools a filter leaves, and its pages."""

from dataclasses import replace
from typing import Any, cast

import pytest

from toolwright.v1 import tool_catalog_pb2
from toolwright_server.catalog import wire
from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.model import Effect, FallbackPolicy, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.service import ToolCatalogService
from toolwright_server.catalog.settings_registry import ToolSettingsRegistry
from toolwright_server.errors import ToolwrightError
from toolwright_server.execution import canonical
from toolwright_server.identity.caller import ANONYMOUS
from toolwright_server.rpc.call import RpcCall
from toolwright_server.stores.memory.tool_settings import MemoryToolSettingsStore
from toolwright_server.telemetry.tracing import CallTrace

from .setting import catalog, settings

pytestmark = pytest.mark.asyncio
# ListTools asks nothing of its call but who makes it.
CALL = RpcCall("ListTools", ANONYMOUS, cast("CallTrace", None), received=0.0)


def made(name: str, effect: Effect, fallback: FallbackPolicy | None = None, **labels: str) -> Tool:
    async def function() -> None: ...

    found = declared_tool(tool(name, effect=effect, labels=labels, fallback=fallback)(function))
    assert found is not None
    return found


async def test_settings_are_shown_without_what_is_secret_to_any_version() -> None:
    kept = settings(fixed_arguments=b'{"key":"k9","subject":"s"}')
    schemas = [tool.input_schema for tool in catalog(versions=True).versions("letters.send")]
    assert len(schemas) == 2
    for order in (schemas, schemas[::-1]):
        assert wire.settings(kept, order).fixed_arguments_json == '{"key":"[redacted]","subject":"s"}'


@pytest.fixture
def service() -> ToolCatalogService:
    tools = (
        made("crm.get", Effect.READ_ONLY, team="sales"),
        made("crm.put", Effect.SIDE_EFFECT, team="sales"),
        made("email.send", Effect.SIDE_EFFECT, team=""),
        made("system.reset", Effect.IDEMPOTENT),
    )
    return serving(Catalog(tools))


def serving(found: Catalog) -> ToolCatalogService:
    def no_arguments(request: Any) -> dict[str, Any]:
        return {}

    registry = ToolSettingsRegistry(found, MemoryToolSettingsStore(), 60.0, canonical.parse)
    return ToolCatalogService(found, timeout_of=lambda _: 1.0, read_arguments=no_arguments, settings=registry)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["crm.get", "crm.put", "email.send", "system.reset"]),
        ("name = crm.*", ["crm.get", "crm.put"]),
        ("category = crm AND effect = READ_ONLY", ["crm.get"]),
        ("effect = EFFECT_IDEMPOTENT OR category = email", ["email.send", "system.reset"]),
        ("NOT effect = SIDE_EFFECT", ["crm.get", "system.reset"]),
        ("labels:team", ["crm.get", "crm.put", "email.send"]),
        ("labels.team != sales", ["email.send", "system.reset"]),
    ],
)
async def test_a_filter_leaves_the_tools_that_it_means(
    service: ToolCatalogService, text: str, names: list[str]
) -> None:
    answer = await service.ListTools(tool_catalog_pb2.ListToolsRequest(filter=text), CALL)
    assert [found.name for found in answer.tools] == names


async def test_the_pages_of_a_filter_have_no_holes(service: ToolCatalogService) -> None:
    request = tool_catalog_pb2.ListToolsRequest(filter="NOT name = crm.put", page_size=1)
    names: list[str] = []
    while True:
        page = await service.ListTools(request, CALL)
        names += [found.name for found in page.tools]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert names == ["crm.get", "email.send", "system.reset"]


async def test_what_answers_in_a_tools_place_is_told_to_whom_may_call_it() -> None:
    tools = [
        made("crm.get", Effect.READ_ONLY, FallbackPolicy(tool="kb.find")),
        made("crm.list", Effect.READ_ONLY, FallbackPolicy(value="null")),
        made("kb.find", Effect.READ_ONLY),
    ]
    there = serving(Catalog(tools))
    for scopes, told in ((("*",), "kb.find"), (("crm.*",), None)):
        caller = replace(ANONYMOUS, scopes=scopes)
        call = RpcCall("ListTools", caller, cast("CallTrace", None), received=0.0)
        listed = (await there.ListTools(tool_catalog_pb2.ListToolsRequest(), call)).tools
        shown = {each.name: each.fallback_policy.tool for each in listed if each.HasField("fallback_policy")}
        assert shown == ({"crm.list": ""} if told is None else {"crm.get": told, "crm.list": ""})


@pytest.mark.parametrize("text", ["state = RUNNING", "effect = NONE", "name > crm"])
async def test_a_filter_that_cannot_be_meant_is_refused(service: ToolCatalogService, text: str) -> None:
    with pytest.raises(ToolwrightError):
        await service.ListTools(tool_catalog_pb2.ListToolsRequest(filter=text), CALL)
