"""`tools`: what a server offers, as a table for people and as JSON for programs."""

import sys

import grpc

from toolwright.v1 import tool_catalog_pb2, tool_catalog_pb2_grpc
from toolwright.v1.tool_catalog_pb2 import Tool
from toolwright_server.commands import failures
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.commands.connecting import Unreachable, connected
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json

_PAGE = 1000
_SECONDS = 30.0


def show(address: str | None, name: str | None, category: str | None, *, as_json: bool) -> int:
    """Print the tools of a category, or all, or the one with this name; the exit code."""
    people = for_people(as_json=as_json)
    try:
        _check(name, category)
        with connected(address) as channel:
            stub = tool_catalog_pb2_grpc.ToolCatalogServiceStub(channel)
            if name is not None:
                request = tool_catalog_pb2.GetToolRequest(tool=text(name, "NAME"))
                _show_one(stub.GetTool(request, timeout=_SECONDS).tool, people=people)
            else:
                _show_all(_listed(stub, category), people=people)
    except UsageError as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.USAGE
    except Unreachable as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.UNAVAILABLE
    except grpc.RpcError as error:
        return failures.of_rpc(error).tell()
    return Exit.OK


def _check(name: str | None, category: str | None) -> None:
    if name is not None and category is not None:
        raise UsageError("give a NAME or a --category, not both")
    if category is not None and not category.replace("_", "").isalnum():
        raise UsageError(f"--category {category!r}: is one lower-case word, for example crm")


def _listed(stub: tool_catalog_pb2_grpc.ToolCatalogServiceStub, category: str | None) -> list[Tool]:
    request = tool_catalog_pb2.ListToolsRequest(
        page_size=_PAGE, filter="" if category is None else f'category = "{category}"'
    )
    found: list[Tool] = []
    while True:
        page = stub.ListTools(request, timeout=_SECONDS)
        found += page.tools
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def _show_all(tools: list[Tool], *, people: bool) -> None:
    if not people:
        show_json([document(tool) for tool in tools], people=False)
        return
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("name", "version", "effect", "timeout", "description", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for tool in tools:
        said = document(tool)
        first = tool.description.split("\n\n", 1)[0].replace("\n", " ")
        cells = (tool.name, tool.version, said.get("effect", ""), f"{said.get('timeout_seconds', 0):g} s", first)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)


def _show_one(tool: Tool, *, people: bool) -> None:
    described = document(tool)
    if not people:
        show_json(described, people=False)
        return
    schemas = {name: described.pop(name) for name in ("input_schema", "output_schema") if name in described}
    for key, value in described.items():
        print(f"{key.replace('_', ' ')}: {printable(str(value))}")
    for key, schema in schemas.items():
        print(f"{key.replace('_', ' ')}:")
        show_json(schema, people=True)
