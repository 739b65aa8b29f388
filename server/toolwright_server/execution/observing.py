"""What telemetry is told of an execution that has ended."""

from toolwright_server.execution.flight import Flight
from toolwright_server.telemetry import Metrics, Tracing


def observe(flight: Flight, metrics: Metrics, tracing: Tracing) -> None:
    """Count how long its tool took, and end its span."""
    execution, failure = flight.execution, flight.execution.failure
    error_type = failure.reason.name if failure is not None else None
    if execution.tool_seconds is not None:
        metrics.tool_call(execution.tool, error_type, execution.tool_seconds)
    if flight.trace is not flight.invocation.trace:
        tracing.end_tool_call(
            flight.trace,
            error_type,
            failure.message if failure is not None else None,
            {
                "toolwright.execution.state": execution.state.name,
                "toolwright.result.source": execution.source.name,
            },
        )
