"""Traces, metrics, logs, the health page and the watchdog of one server, started and stopped together.

The ground floor: knows nothing of gRPC, tools or settings. `Telemetry` is the only name that `app` needs.
"""

from toolwright_server.telemetry.call_log import CallLog
from toolwright_server.telemetry.facade import Telemetry
from toolwright_server.telemetry.metrics import Metrics
from toolwright_server.telemetry.options import TelemetryConfigError, TelemetryOptions
from toolwright_server.telemetry.tracing import CallTrace, Tracing

__all__ = ["CallLog", "CallTrace", "Metrics", "Telemetry", "TelemetryConfigError", "TelemetryOptions", "Tracing"]
