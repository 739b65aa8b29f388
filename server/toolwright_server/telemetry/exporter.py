"""The exporter process: reads frames on standard input, sends them over OTLP or appends spans to the file.

It exists so that encoding and sending never compete with the server for the interpreter lock. It ends when its input
ends, ignores the terminal's signals, and never outlives its server by more than the grace it was given.
"""

import argparse
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from toolwright_server.telemetry.deltas import Deltas
from toolwright_server.telemetry.frames import read_frames
from toolwright_server.telemetry.instruments import MetricSnapshot
from toolwright_server.telemetry.logs import configure_logging
from toolwright_server.telemetry.options import otlp_protocol
from toolwright_server.telemetry.otlp_data import metrics_data, readable_span, resource_from
from toolwright_server.telemetry.span_file import SpanFile
from toolwright_server.telemetry.spans import SpanRecord

_logger = logging.getLogger("toolwright_server.telemetry.exporter")


class SpanSink(Protocol):
    """Where spans go. Returns None, or what kind of failure lost them."""

    def __call__(self, records: Sequence[SpanRecord], /) -> str | None: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until standard input ends; the exit code is 0."""
    options = _parsed(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reports = _private_output()
    os.nice(options.nice)
    configure_logging(options.log_format, options.log_level)
    threading.Thread(target=_leave_after_hang_up, args=(options.grace,), daemon=True).start()
    _Exporter(options, reports).run()
    return 0


class _Exporter:
    def __init__(self, options: argparse.Namespace, reports: int) -> None:
        self._options = options
        self._reports = reports
        self._resource = Resource.get_empty()
        self._spans: SpanSink | None = None
        self._metrics: MetricExporter | None = _metric_exporter() if options.metrics == "otlp" else None
        preference = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").lower()
        self._deltas = Deltas() if preference in ("delta", "lowmemory") else None

    def run(self) -> None:
        for payload in read_frames(sys.stdin.buffer):
            frame: dict[str, Any] = orjson.loads(payload)
            if "resource" in frame:
                self._begin(frame["resource"])
            elif "spans" in frame:
                self._export_spans(frame["spans"])
            elif self._metrics is not None:
                self._export_metrics(self._metrics, frame["metrics"])

    def _begin(self, attributes: dict[str, Any]) -> None:
        self._resource = resource_from(attributes)
        if self._options.traces == "otlp":
            self._spans = _otlp_sink(_span_exporter(), self._resource)
        elif self._options.traces == "file":
            folder = Path(self._options.data_dir)
            self._spans = _file_sink(SpanFile(folder, max_bytes=self._options.file_max_bytes, resource=attributes))

    def _export_spans(self, records: list[SpanRecord]) -> None:
        try:
            error = self._spans(records) if self._spans is not None else "no_destination"
        except Exception:
            # One batch that cannot be exported, for whatever reason, must not end the export of the next.
            _logger.exception("%d spans could not be exported", len(records))
            error = "export_failed"
        report = orjson.dumps({"spans": len(records), "error": error}, option=orjson.OPT_APPEND_NEWLINE)
        try:
            os.write(self._reports, report)
        except BrokenPipeError:
            pass  # the server is gone: what it left behind is exported all the same

    def _export_metrics(self, exporter: MetricExporter, snapshots: list[MetricSnapshot]) -> None:
        if self._deltas is not None:
            snapshots = self._deltas.since_last(snapshots)
        try:
            data = metrics_data(snapshots, self._resource, delta=self._deltas is not None)
            result = exporter.export(data)  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs
        except Exception:
            # As for spans.
            _logger.exception("metrics could not be exported")
        else:
            if result is not MetricExportResult.SUCCESS:
                _logger.warning("metrics could not be exported: the collector did not take them")


def _otlp_sink(exporter: SpanExporter, resource: Resource) -> SpanSink:
    def sink(records: Sequence[SpanRecord]) -> str | None:
        spans = [readable_span(record, resource) for record in records]
        return None if exporter.export(spans) is SpanExportResult.SUCCESS else "export_failed"

    return sink


def _file_sink(file: SpanFile) -> SpanSink:
    def sink(records: Sequence[SpanRecord]) -> str | None:
        try:
            file.append(records)
        except OSError as error:
            _logger.warning("spans could not be written to %s: %s", error.filename, error.strerror)
            return "write_failed"
        return None

    return sink


def _span_exporter() -> SpanExporter:
    # Imported when chosen: each of these drags in its transport.
    if otlp_protocol(os.environ, "TRACES") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    return OTLPSpanExporter()


def _metric_exporter() -> MetricExporter:
    if otlp_protocol(os.environ, "METRICS") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    return OTLPMetricExporter()


def _private_output() -> int:
    """A descriptor for reports that nobody else writes to: prints of a library go to standard error from here on."""
    reports = os.dup(1)
    os.dup2(2, 1)
    return reports


def _leave_after_hang_up(grace_seconds: float) -> None:
    """Wait until the server has closed its end, then give the export `grace_seconds`: a collector may be dead."""
    poll = select.poll()
    poll.register(0, 0)  # hang-ups are always reported, also while frames are still unread
    poll.poll()
    threading.Event().wait(grace_seconds)
    os._exit(1)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="toolwright-telemetry-exporter", description=__doc__)
    parser.add_argument("--traces", choices=("otlp", "file", "none"), required=True)
    parser.add_argument("--metrics", choices=("otlp", "none"), required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--file-max-bytes", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True, help="seconds to go on after the input has ended")
    parser.add_argument("--nice", type=int, required=True)
    parser.add_argument("--log-format", choices=("auto", "json", "text"), required=True)
    parser.add_argument("--log-level", required=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
