"""The server's metrics: what is counted, under which names, and the verbs that the rest of the server counts with.

Names follow OpenTelemetry's conventions where there are some, and begin with `toolwright.` where there are none.
Never exports; `snapshot` is what leaves.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Literal

from toolwright_server.telemetry.caching import CacheMetrics
from toolwright_server.telemetry.circuits import CircuitMetrics
from toolwright_server.telemetry.instruments import Counter, Gauge, Histogram, Instrument, MetricSnapshot, Series
from toolwright_server.telemetry.prometheus import render
from toolwright_server.telemetry.tracing import SERVER_ERRORS

_logger = logging.getLogger(__name__)

# The conventions' bounds (0.005 to 10), with finer ones below and longer ones above: tools take 1 ms to minutes.
DURATION_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER_METHOD = "_OTHER"

# Gauges that other parts feed with `observe`: name → (unit, description, kind).
_OBSERVED: dict[str, tuple[str, str, Literal["gauge", "updown"]]] = {
    "toolwright.executions.running": ("{execution}", "Executions that run now.", "updown"),
    "toolwright.artifacts.bytes": ("By", "Bytes of artifacts on the disk, and reserved for them.", "updown"),
    "toolwright.executions.kept": ("{execution}", "Executions that are kept in memory.", "updown"),
    "toolwright.cache.entries": ("{result}", "Results that are kept in this process.", "updown"),
    "toolwright.cache.size": ("By", "Their size, with what keeping them takes.", "updown"),
    "toolwright.cache.store.up": ("1", "Whether the shared store of results answers.", "gauge"),
    "toolwright.limits.store.up": ("1", "Whether the shared store of limits answers.", "gauge"),
    "toolwright.limits.store.servers": ("{server}", "Servers that share the store of limits.", "gauge"),
    "toolwright.worker.queue.length": ("{call}", "Calls that wait for a worker process.", "updown"),
    "toolwright.workers": ("{process}", "Worker processes alive.", "updown"),
    "toolwright.workers.busy": ("{process}", "Worker processes that run a call.", "updown"),
    "toolwright.limits.waiting": ("{call}", "Calls that wait for a place under a concurrency limit.", "updown"),
}


class Metrics:
    """All instruments. The verbs are called on the event loop; `render` and `snapshot` from any thread."""

    def __init__(self) -> None:
        self.calls_in_flight = 0
        self.cache, self.circuits = CacheMetrics(), CircuitMetrics()
        self._methods: frozenset[str] | None = None
        self._rpc_series: dict[tuple[str, str], Series] = {}
        self._tool_series: dict[tuple[str, str | None], Series] = {}
        self._last_lag = 0.0
        self._rpc = Histogram(
            "rpc.server.call.duration", "s", "Duration of calls that the server answered.", DURATION_BOUNDS,
            ("rpc.method", "rpc.response.status_code", "error.type"), constant={"rpc.system.name": "grpc"},
        )  # fmt: skip
        self._tool = Histogram(
            "gen_ai.execute_tool.duration", "s", "Duration of tool executions.", DURATION_BOUNDS,
            ("gen_ai.tool.name", "error.type"), constant={"gen_ai.operation.name": "execute_tool"},
        )  # fmt: skip
        self._lag = Histogram("toolwright.loop.lag", "s", "How late the event loop ran its timer.", LAG_BOUNDS)
        self._blocked = Counter(
            "toolwright.loop.blocked", "{time}", "Times that a tool held the event loop.", ("gen_ai.tool.name",)
        )
        self._kills = Counter("toolwright.worker.kills", "{process}", "Worker processes killed.", ("reason",))
        self._stubborn = Counter(
            "toolwright.tools.stubborn", "{execution}", "Executions that went on after they were cancelled.",
            ("gen_ai.tool.name",),
        )  # fmt: skip
        self._unauthenticated = Counter(
            "toolwright.authentication.failures", "{call}", "Calls whose credentials proved nothing.", ("reason",)
        )
        self._limit_store = Histogram(
            "toolwright.limits.store.duration", "s", "Round trips to the shared store of limits.", DURATION_BOUNDS
        )
        self._decided_without = Counter(
            "toolwright.limits.store.missed", "{call}", "Calls that were decided without the shared store of limits.",
            ("fail",),
        )  # fmt: skip
        self._limited = Counter(
            "toolwright.limits.refused", "{call}", "Calls that a rule refused, or in shadow would have.",
            ("toolwright.limit.rule", "toolwright.limit.shadow"),
        )  # fmt: skip
        self._rules_refused = Counter(
            "toolwright.limits.reload.failures", "{time}", "Times that a changed limits file could not be used."
        )
        self._dropped = Counter(
            "otel.sdk.processor.span.processed", "{span}", "Spans that were dropped before export.", ("error.type",)
        )
        self._exported = Counter(
            "otel.sdk.exporter.span.exported", "{span}", "Spans whose export has ended; with error.type: failed.",
            ("error.type",),
        )  # fmt: skip
        self._instruments: dict[str, Instrument] = {
            instrument.name: instrument
            for instrument in (
                self._rpc, self._tool, self._lag, self._blocked, self._kills, self._stubborn, self._unauthenticated,
                self._limited, self._rules_refused, self._limit_store, self._decided_without,
                self._dropped, self._exported, *self.cache, *self.circuits,
                Gauge("toolwright.calls.in_flight", "{call}", "Calls that the server is answering.",
                      lambda: self.calls_in_flight, kind="updown"),
                Gauge("toolwright.loop.lag.last", "s", "How late the event loop was at its last timer.",
                      lambda: self._last_lag),
            )
        }  # fmt: skip

    def declare_methods(self, methods: Iterable[str]) -> None:
        """Name the rpcs that exist ("toolwright.v1.ToolExecution/Execute"); any other is counted as `_OTHER`."""
        self._methods = frozenset(methods)

    def rpc_call(self, method: str, code: str, seconds: float) -> None:
        """A call was answered with the gRPC status `code`."""
        series = self._rpc_series.get((method, code)) or self._new_rpc_series(method, code)
        series.counts[bisect_left(DURATION_BOUNDS, seconds)] += 1
        series.sum += seconds

    def tool_call(self, tool: str, error_type: str | None, seconds: float) -> None:
        """An execution of a tool of the catalogue ended; `error_type` None is success."""
        series = self._tool_series.get((tool, error_type)) or self._new_tool_series(tool, error_type)
        series.counts[bisect_left(DURATION_BOUNDS, seconds)] += 1
        series.sum += seconds

    def call_started(self) -> None:
        self.calls_in_flight += 1

    def call_finished(self) -> None:
        self.calls_in_flight -= 1

    def loop_lag(self, seconds: float) -> None:
        """How much later than asked the event loop ran its timer."""
        self._last_lag = seconds
        self._lag.record(seconds)

    def loop_blocked(self, tool: str) -> None:
        """`tool` (or "" when it was none) held the event loop longer than the limit."""
        self._blocked.add(1, (tool or "none",))

    def worker_killed(self, reason: str) -> None:
        """A worker process was killed: deadline, cancelled, memory, output, shutdown, ..."""
        self._kills.add(1, (reason,))

    def stubborn_tool(self, tool: str) -> None:
        """A tool swallowed its cancellation and went on."""
        self._stubborn.add(1, (tool,))

    def authentication_failed(self, reason: str) -> None:
        """The credentials of a call proved nothing: missing, malformed, revoked_key, expired_token, ..."""
        self._unauthenticated.add(1, (reason,))

    def limit_store_round_trip(self, seconds: float) -> None:
        """The shared store of limits has answered one pipeline."""
        self._limit_store.record(seconds)

    def limit_store_decided(self, fail: str) -> None:
        """A call was decided without the shared store: by rules that are open, closed or local."""
        self._decided_without.add(1, (fail,))

    def limit_reached(self, rule: str, *, shadow: bool) -> None:
        """A rule refused a call, or would have, were it not in shadow."""
        self._limited.add(1, (rule, "true" if shadow else ""))

    def limits_file_refused(self) -> None:
        """The limits file was changed and cannot be used: the rules before it hold on."""
        self._rules_refused.add()

    def spans_dropped(self, count: int, reason: str) -> None:
        """Spans never reached the exporter: `queue_full` or `exporter_gone`."""
        self._dropped.add(count, (reason,))

    def spans_exported(self, count: int, error_type: str | None = None) -> None:
        """The exporter has done with spans; with `error_type` they are lost."""
        self._exported.add(count, (error_type or "",))

    def observe(self, name: str, callback: Callable[[], float], *, unit: str = "1", description: str = "") -> None:
        """Show a gauge that `callback` reads, from any thread; a second callback for a name replaces the first."""
        known_unit, known_description, kind = _OBSERVED.get(name, (unit, description, "gauge"))
        self._instruments[name] = Gauge(name, known_unit, known_description, callback, kind=kind)

    def snapshot(self) -> list[MetricSnapshot]:
        """Every instrument that has something to say, as plain data."""
        taken = [self._read(instrument) for instrument in list(self._instruments.values())]
        return [snapshot for snapshot in taken if snapshot is not None and snapshot["points"]]

    def render(self) -> str:
        """Prometheus text format 0.0.4."""
        return render(self.snapshot())

    def _read(self, instrument: Instrument) -> MetricSnapshot | None:
        try:
            return instrument.snapshot()
        except Exception:
            # A gauge's callback belongs to another part: its failure must not hide the other metrics.
            _logger.exception("the metric %s could not be read", instrument.name)
            return None

    def _new_rpc_series(self, method: str, code: str) -> Series:
        known = self._methods is None or method in self._methods
        labels = (method if known else OTHER_METHOD, code, code if code in SERVER_ERRORS else "")
        series = self._rpc.series(labels)
        if known:
            self._rpc_series[method, code] = series
        return series

    def _new_tool_series(self, tool: str, error_type: str | None) -> Series:
        series = self._tool_series[tool, error_type] = self._tool.series((tool, error_type or ""))
        return series
