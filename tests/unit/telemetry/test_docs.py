"""docs/telemetry.md says what the code does: every name in it exists, every name that exists is in it."""

import asyncio
import re
from pathlib import Path
from typing import Any

from toolwright_server.supervision.whole import Whole
from toolwright_server.telemetry.instruments import MAX_SERIES, MetricSnapshot
from toolwright_server.telemetry.metrics import Metrics
from toolwright_server.telemetry.options import TelemetryOptions, read_otel_environment
from toolwright_server.telemetry.tracing import SERVER_ERRORS

TEXT = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()


def test_every_metric_is_documented_and_no_other() -> None:
    metrics = Metrics()
    table = TEXT.partition("| metric |")[2].partition("\n\n")[0]
    documented = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([a-z_.]+)`", row.split("|")[1] if "|" in row else "")
    }
    observed = {name for name in documented if name.startswith(("toolwright.executions", "toolwright.worker"))}
    observed |= {"toolwright.limits.waiting", "toolwright.limits.store.up", "toolwright.limits.store.servers"}
    observed |= {"toolwright.cache.entries", "toolwright.cache.size", "toolwright.cache.store.up"}
    observed |= {"toolwright.artifacts.bytes"}
    for name in observed - {"toolwright.worker.kills"}:
        metrics.observe(name, lambda: 1)
    metrics.cache.recalled("x", "hit")
    metrics.worker_killed("x")
    metrics.loop_blocked("x")
    metrics.loop_lag(1)
    metrics.stubborn_tool("x")
    metrics.authentication_failed("x")
    metrics.limit_reached("x", shadow=True)
    metrics.limits_file_refused()
    metrics.limit_store_round_trip(0.001)
    metrics.limit_store_decided("open")
    metrics.circuits.refused("x")
    metrics.circuits.changed("x", "open")
    metrics.circuits.observe(lambda: {"x": 1.0})
    metrics.spans_dropped(1, "x")
    metrics.spans_exported(1)
    metrics.rpc_call("m", "OK", 1)
    metrics.tool_call("t", None, 1)
    snapshots = [*metrics.snapshot(), *of_several_processes()]
    assert {snapshot["name"] for snapshot in snapshots} == documented
    assert all(snapshot["description"] for snapshot in snapshots), "each gauge is one that is known"


def of_several_processes() -> list[MetricSnapshot]:
    loop = asyncio.new_event_loop()
    loop.close()
    return Whole(loop).own()


def test_the_numbers_are_those_of_the_code() -> None:
    options = TelemetryOptions(data_dir=Path(), server_id="x")
    mebibyte = 1024 * 1024
    assert f"at\n  {options.span_file_max_bytes // mebibyte} MiB" in TEXT
    assert f"at most {options.exporter_backlog_max_bytes // mebibyte} MiB for it" in TEXT
    assert f"{options.exporter_close_seconds:.0f} seconds for the last spans" in TEXT
    assert f"at most {MAX_SERIES} series" in TEXT
    assert f"`{read_otel_environment({}).metric_interval_seconds * 1000:.0f}`" in TEXT
    named = set(re.findall(r"[A-Z_]{5,}", TEXT.partition("fault is the server's (")[2].partition(")")[0]))
    assert named == SERVER_ERRORS


def test_the_snippet_runs() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, "docs/telemetry.md", "exec"), names)
    assert asyncio.run(names["find"]("Ada")) == "Ada"
