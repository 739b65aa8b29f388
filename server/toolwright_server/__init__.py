"""Toolwright's server. Tool authors import from here; everything else is the server's own business."""

from toolwright_server.catalog.context import (
    AsyncToolContext,
    SyncToolContext,
    ToolCallError,
    ToolContext,
    ToolError,
)
from toolwright_server.catalog.functions import Toolkit, ToolkitSettings, tool
from toolwright_server.catalog.model import Effect, Runs

__all__ = [
    "AsyncToolContext",
    "Effect",
    "Runs",
    "SyncToolContext",
    "ToolCallError",
    "ToolContext",
    "ToolError",
    "Toolkit",
    "ToolkitSettings",
    "tool",
]
