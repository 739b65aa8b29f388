"""Tools that can be kept from being loaded, for tests of processes that cannot start."""

import os
from pathlib import Path

from toolwright_server import Effect, tool

if Path(os.environ["SEVERAL_BROKEN"]).exists():
    raise RuntimeError("broken on purpose")


@tool("several.nothing", effect=Effect.READ_ONLY)
async def nothing() -> None:
    """Does nothing."""
