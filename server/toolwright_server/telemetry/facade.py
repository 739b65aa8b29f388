"""The parts of telemetry put together: what starts when, what flows where, what is flushed at the end."""

import asyncio
import logging
import os
from collections.abc import Callable

import orjson
from opentelemetry import trace

from toolwright_server.telemetry.call_log import CallLog
from toolwright_server.telemetry.exporter_pipe import ExporterPipe
from toolwright_server.telemetry.frames import encode_metrics, encode_spans
from toolwright_server.telemetry.http import Health, TelemetryHttp
from toolwright_server.telemetry.logs import configure_logging, wants_json
from toolwright_server.telemetry.metrics import Metrics
from toolwright_server.telemetry.options import OtelEnvironment, TelemetryOptions, read_otel_environment
from toolwright_server.telemetry.resource import server_resource
from toolwright_server.telemetry.sampling import sampling_from
from toolwright_server.telemetry.span_buffer import SpanBuffer
from toolwright_server.telemetry.tracing import Tracing
from toolwright_server.telemetry.watchdog import Watchdog

_logger = logging.getLogger(__name__)

_WARN_SECONDS = 10.0


class Telemetry:
    """`start` before gRPC, `run` on the event loop, `close` at the end.

    Raises:
        TelemetryConfigError: an OTEL_* variable or an option cannot be right.
    """

    def __init__(self, options: TelemetryOptions) -> None:
        self.options = options
        self.otel: OtelEnvironment = read_otel_environment(os.environ)
        self.metrics = Metrics()
        self.call_log = CallLog(
            as_json=wants_json(options.log_format), enabled=options.log_level.upper() in ("INFO", "DEBUG")
        )
        self._buffer = SpanBuffer(flush_count=options.span_flush_count, max_count=options.span_buffer_count)
        self._resource = server_resource(options.server_id, options.service_version, options.process_number)
        self.tracing = Tracing(
            sampling_from(self.otel.sampler, self.otel.sampler_arg),
            self._buffer,
            self._resource,
            recording=self.otel.traces_to != "none",
            disabled=self.otel.disabled,
        )
        self.watchdog = Watchdog(
            blocked_after_seconds=options.loop_blocked_seconds,
            tick_seconds=options.loop_tick_seconds,
            on_lag=self.metrics.loop_lag,
            on_blocked=self.metrics.loop_blocked,
        )
        self.http: TelemetryHttp | None = None
        self._pipe: ExporterPipe | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refused_seen = 0
        self._dropped_unsaid = 0
        self._warn_after = 0.0

    def start(self, health: Health | None = None) -> None:
        """Logging, the exporter process and the HTTP page. Before gRPC starts: this is where a process is made.

        `health` is asked by /healthz, after the watchdog; without it the loop alone counts.

        Raises:
            TelemetryConfigError: the HTTP address cannot be used, the log level does not exist.
        """
        configure_logging(self.options.log_format, self.options.log_level)
        self.call_log.start()
        if self.options.set_global_tracer_provider:
            trace.set_tracer_provider(self.tracing.provider)
        if self.options.http_listen:
            self.http = TelemetryHttp(
                self.options.http_listen, metrics=self.metrics.render, health=lambda: self.health(health)
            )
            self.http.start()
        if "otlp" in (self.otel.traces_to, self.otel.metrics_to) or self.otel.traces_to == "file":
            self._pipe = ExporterPipe(
                self._exporter_command(),
                backlog_max_bytes=self.options.exporter_backlog_max_bytes,
                on_report=self.metrics.spans_exported,
            )
            self._pipe.start()
            self._pipe.send(orjson.dumps({"resource": dict(self._resource.attributes)}, default=list))

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the periodic work on `loop`; called on its thread, returns at once."""
        self._loop = loop
        self.watchdog.start(loop)
        if self._pipe is not None:
            self._pipe.attach(loop)
            self._buffer.wake_with(lambda: loop.call_soon_threadsafe(self.flush))
            self._every("spans", self.options.span_flush_interval_seconds, self.flush)
            if self.otel.metrics_to == "otlp":
                self._every("metrics", self.otel.metric_interval_seconds, self._send_metrics)

    def health(self, also: Health | None = None) -> tuple[bool, str]:
        """Whether the event loop runs and `also` agrees; the reason if not. From any thread."""
        blocked = self.watchdog.blocked()
        if blocked is not None:
            return False, f"the event loop has been blocked for {blocked[1]:.1f} s by {blocked[0]}"
        return also() if also is not None else (True, "ok")

    def flush(self) -> None:
        """Hand every finished span to the exporter process; never waits."""
        if self._pipe is None or self._loop is None:
            return
        records = self._buffer.take()
        size = self.options.span_flush_count
        for begin in range(0, len(records), size):
            batch = records[begin : begin + size]
            if not self._pipe.alive:
                self._dropped(len(batch), "exporter_gone")
            elif not self._pipe.send(encode_spans(batch), len(batch)):
                self._dropped(len(batch), "queue_full")
        refused = self._buffer.refused - self._refused_seen
        if refused:
            self._refused_seen += refused
            self._dropped(refused, "queue_full")
        self._warn_of_drops()

    async def flush_and_wait(self, seconds: float) -> bool:
        """Flush, and wait until the exporter has done with every span; False when it has not in `seconds`."""
        self.flush()
        return await self._pipe.drain(seconds) if self._pipe is not None else True

    async def close(self) -> None:
        """Send what is left, end the exporter process, stop everything; bounded by `exporter_close_seconds`."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._buffer.wake_with(None)
        self.tracing.provider.shutdown()
        if self._pipe is not None:
            self.flush()
            if self.otel.metrics_to == "otlp":
                self._send_metrics()
            if not await self._pipe.close(self.options.exporter_close_seconds):
                _logger.warning("telemetry was not exported completely: the collector did not take it in time")
        if self.http is not None:
            await asyncio.to_thread(self.http.close)
        self.watchdog.stop()
        await asyncio.to_thread(self.call_log.close)

    def _send_metrics(self) -> None:
        assert self._pipe is not None
        self._pipe.send(encode_metrics(self.metrics.snapshot()))

    def _dropped(self, count: int, reason: str) -> None:
        self.metrics.spans_dropped(count, reason)
        self._dropped_unsaid += count

    def _warn_of_drops(self) -> None:
        assert self._loop is not None
        if self._dropped_unsaid and self._loop.time() >= self._warn_after:
            _logger.warning(
                "%d spans were dropped: the exporter process does not keep up, or is gone", self._dropped_unsaid
            )
            self._dropped_unsaid = 0
            self._warn_after = self._loop.time() + _WARN_SECONDS

    def _every(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        assert self._loop is not None

        def again() -> None:
            self._every(name, seconds, work)  # first: a failure of the work must not be its last time
            work()

        self._timers[name] = self._loop.call_later(seconds, again)

    def _exporter_command(self) -> list[str]:
        options = self.options
        return [
            "-m", "toolwright_server.telemetry.exporter",
            "--traces", self.otel.traces_to,
            "--metrics", self.otel.metrics_to,
            "--data-dir", str(options.data_dir),
            "--file-max-bytes", str(options.span_file_max_bytes),
            "--grace", str(options.exporter_close_seconds),
            "--nice", str(options.exporter_nice),
            "--log-format", options.log_format,
            "--log-level", options.log_level,
        ]  # fmt: skip
