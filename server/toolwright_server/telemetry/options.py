"""What telemetry is told: its own options, and the OTEL_* variables read as OpenTelemetry defines them.

Never reads the server's settings: whoever builds telemetry passes plain values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolwright_server.errors import SettingsError

LogFormat = Literal["auto", "json", "text"]
Destination = Literal["otlp", "file", "none"]
Signal = Literal["TRACES", "METRICS"]


class TelemetryConfigError(SettingsError):
    """A telemetry setting that cannot be right; the message names it and says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryOptions:
    """Everything telemetry needs, with units in the names. Sizes are bytes, times are seconds."""

    data_dir: Path
    server_id: str
    # Which of the processes that share an environment this is, from 1; 0 for one that is alone.
    process_number: int = 0
    service_version: str = ""
    http_listen: str | None = None
    log_format: LogFormat = "auto"
    log_level: str = "INFO"
    span_file_max_bytes: int = 16 * 1024 * 1024
    span_flush_interval_seconds: float = 0.2
    span_flush_count: int = 512
    span_buffer_count: int = 16_384
    exporter_backlog_max_bytes: int = 16 * 1024 * 1024
    exporter_close_seconds: float = 5.0
    exporter_nice: int = 5
    loop_blocked_seconds: float = 1.0
    loop_tick_seconds: float = 0.1
    # False lets several servers live in one process: OpenTelemetry allows one global provider only.
    set_global_tracer_provider: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OtelEnvironment:
    """The OTEL_* variables that the server itself acts on; the exporter process reads its own."""

    disabled: bool
    sampler: str
    sampler_arg: str
    traces_to: Destination
    metrics_to: Destination
    metric_interval_seconds: float


def read_otel_environment(environ: Mapping[str, str]) -> OtelEnvironment:
    """Read the OTEL_* variables.

    Raises:
        TelemetryConfigError: for an exporter or a protocol that is not supported, or an interval that is no number.
    """
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"
    traces_to = "none" if disabled else _destination(environ, "TRACES", without_endpoint="file")
    return OtelEnvironment(
        disabled=disabled,
        sampler=sampler,
        sampler_arg=environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip(),
        # Without a span to export, ever, no process is made for them.
        traces_to="none" if sampler.lower() == "always_off" else traces_to,
        metrics_to="none" if disabled else _destination(environ, "METRICS", without_endpoint="none"),
        metric_interval_seconds=_milliseconds(environ, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000,
    )


def otlp_protocol(environ: Mapping[str, str], signal: Signal) -> str:
    """The OTLP protocol for one signal: "grpc" (default) or "http/protobuf".

    Raises:
        TelemetryConfigError: for any other protocol.
    """
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name, "").strip()
        if protocol in ("grpc", "http/protobuf"):
            return protocol
        if protocol:
            raise TelemetryConfigError(f"{name}={protocol} is not supported: use grpc or http/protobuf")
    return "grpc"


def _destination(environ: Mapping[str, str], signal: Signal, *, without_endpoint: Destination) -> Destination:
    name = f"OTEL_{signal}_EXPORTER"
    chosen = environ.get(name, "").strip().lower()
    if chosen == "none":
        return "none"
    if chosen == "prometheus" and signal == "METRICS":
        return "none"  # /metrics is always there
    if chosen not in ("", "otlp"):
        alternatives = "otlp, prometheus or none" if signal == "METRICS" else "otlp or none"
        raise TelemetryConfigError(f"{name}={chosen} is not supported: use {alternatives}, or leave it unset")
    endpoints = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if chosen == "otlp" or any(environ.get(endpoint, "").strip() for endpoint in endpoints):
        otlp_protocol(environ, signal)
        return "otlp"
    return without_endpoint


def _milliseconds(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise TelemetryConfigError(
            f"{name}={text} is not a positive whole number of milliseconds: write e.g. {default}"
        )
    return int(text)
