"""What a tool hands on to whatever it calls: the trace, the deadline and its execution id, in OpenTelemetry's context.

The keys are a convention with our client library, which reads them without importing the server.
"""

from opentelemetry.context import Context

from toolwright_server.execution.deadline import Deadline
from toolwright_server.telemetry import CallTrace

DEADLINE_KEY = "toolwright-deadline"
EXECUTION_KEY = "toolwright-execution-id"


def call_context(trace: CallTrace, deadline: Deadline, execution_id: str) -> Context:
    """The context of a call. The deadline is an instant on the monotonic clock."""
    # One dict instead of three set_value calls, each of which copies.
    return Context({**trace.context(), DEADLINE_KEY: deadline.at, EXECUTION_KEY: execution_id})
