"""`check-config`: everything that a server would refuse to start with, and what it would run. Starts nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolwright_server.catalog.discovery import Loaded, load
from toolwright_server.catalog.registry import Catalog
from toolwright_server.commands.folders import check_folder
from toolwright_server.commands.serving import refusing
from toolwright_server.limits.rulefile import read as read_rules
from toolwright_server.settings import Settings, load_settings
from toolwright_server.stores.redis.address import Address


def check(config: Path | None, given: Mapping[str, Any]) -> int:
    """Print what would run; the exit code."""
    return refusing(lambda: _check(load_settings(config, given)))


def _check(settings: Settings) -> int:
    check_folder(settings.data_dir)
    found = load(settings.toolkits, settings.tools, settings.toolkit, settings.data_dir, settings.is_loopback)
    Catalog(found.tools)
    if settings.limits_file:
        read_rules(Path(settings.limits_file))
    redis_url = settings.redis_url.get_secret_value()
    counted = Address.parse(redis_url).where if redis_url else "in process"
    for line in _summary(settings, found, counted):
        print(line)
    return 0


def _summary(settings: Settings, found: Loaded, counted: str) -> list[str]:
    counts: dict[str, int] = {}
    for tool in found.tools:
        counts[tool.category] = counts.get(tool.category, 0) + 1
    by_category = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return [
        f"listen     {settings.listen}",
        *((f"processes  {settings.workers}",) if settings.workers > 1 else ()),
        f"http       {settings.http_listen or 'off'}",
        f"data       {settings.data_dir.absolute()}",
        f"limits     {settings.limits_file or 'the ready-made ones'}, counted {counted}",
        f"toolkits   {', '.join(found.toolkits) or 'none'}",
        f"tools      {len(found.tools)}" + (f" ({by_category})" if counts else ""),
        *(f"           {tool.name} {tool.version}" for tool in sorted(found.tools, key=lambda tool: tool.name)),
    ]
