"""docs/caching.md says what the code does: its example declares a tool, and what it names exists."""

import re
from pathlib import Path
from typing import Any

from toolwright_server.catalog.functions import declared_tool
from toolwright_server.catalog.model import CachePolicy
from toolwright_server.settings import Settings
from toolwright_server.telemetry import Metrics

TEXT = (Path(__file__).parents[4] / "docs" / "caching.md").read_text()


def test_the_example_declares_a_tool_that_shares_its_answers() -> None:
    names: dict[str, Any] = {}
    exec(TEXT.split("```python\n", 1)[1].split("```", 1)[0], names)
    found = declared_tool(names["today"])
    assert found is not None
    assert found.cache == CachePolicy(60)


def test_the_settings_that_are_named_exist_and_all_are_named() -> None:
    named = set(re.findall(r"`(cache_\w+)`", TEXT)) - {"cache_mode"}
    assert named == {name for name in Settings.model_fields if name.startswith("cache_")}


def test_the_metrics_that_are_named_exist() -> None:
    metrics = Metrics()
    metrics.cache.recalled("x", "hit")
    for name in ("toolwright.cache.entries", "toolwright.cache.size", "toolwright.cache.store.up"):
        metrics.observe(name, lambda: 1)
    shown = metrics.render()
    for name in set(re.findall(r"`(toolwright\.cache\.[a-z.]+)`", TEXT)) - {"toolwright.cache.result"}:
        assert name.replace(".", "_") in shown
