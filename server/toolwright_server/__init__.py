"""Toolwright's server. Tool authors import from here; everything else is the server's own business."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolwright_server.artifacts.model import ArtifactRefused
    from toolwright_server.catalog.context import (
        AsyncToolContext,
        SyncToolContext,
        ToolCallError,
        ToolContext,
        ToolError,
    )
    from toolwright_server.catalog.functions import Toolkit, ToolkitSettings, tool
    from toolwright_server.catalog.look_up import Found, LookedUp, NotDone, StillUnknown, UnknownExecution
    from toolwright_server.catalog.model import CachePolicy, CircuitPolicy, Effect, FallbackPolicy, RetryPolicy, Runs

__all__ = [
    "ArtifactRefused",
    "AsyncToolContext",
    "CachePolicy",
    "CircuitPolicy",
    "Effect",
    "FallbackPolicy",
    "Found",
    "LookedUp",
    "NotDone",
    "RetryPolicy",
    "Runs",
    "StillUnknown",
    "SyncToolContext",
    "ToolCallError",
    "ToolContext",
    "ToolError",
    "Toolkit",
    "ToolkitSettings",
    "UnknownExecution",
    "tool",
]

_HOMES = {
    "artifacts.model": ("ArtifactRefused",),
    "catalog.context": ("AsyncToolContext", "SyncToolContext", "ToolCallError", "ToolContext", "ToolError"),
    "catalog.functions": ("Toolkit", "ToolkitSettings", "tool"),
    "catalog.look_up": ("Found", "LookedUp", "NotDone", "StillUnknown", "UnknownExecution"),
    "catalog.model": ("CachePolicy", "CircuitPolicy", "Effect", "FallbackPolicy", "RetryPolicy", "Runs"),
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: a command that only calls a server needs neither pydantic nor the schemas.
    for home, names in _HOMES.items():
        if name in names:
            found = getattr(import_module(f"toolwright_server.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
