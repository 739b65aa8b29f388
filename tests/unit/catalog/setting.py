"""Tools and settings for the tests of what tenants change about tools."""

from typing import Annotated, Any

import pydantic

from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.model import Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.settings_model import ToolSettings

Secret = Annotated[str, pydantic.Field(json_schema_extra={"x-sensitive": True})]


def send(to: str, subject: str = "", retries: int = 3, key: Secret = "", tags: list[str] | None = None) -> None:
    """Sends a letter."""


def send_again(to: str, subject: str = "", urgent: bool = False) -> None:
    """Sends a letter, as its second version does."""


def other(anything: int = 0) -> None:
    """Does something else."""


def made(function: Any, name: str, version: str = "1", **options: Any) -> Tool:
    found = declared_tool(tool(name, version=version, **options)(function))
    assert found is not None
    return found


def catalog(*, versions: bool = False) -> Catalog:
    """`letters.send`, in two versions if so wished, and `letters.other`."""
    tools = [made(send, "letters.send", timeout_seconds=7.0), made(other, "letters.other")]
    return Catalog([*tools, made(send_again, "letters.send", "2")] if versions else tools)


def settings(revision: int = 1, **fields: Any) -> ToolSettings:
    """Of `letters.send` in acme."""
    given: dict[str, Any] = {"tenant": "acme", "tool": "letters.send", "revision": revision, **fields}
    return ToolSettings(**given)
