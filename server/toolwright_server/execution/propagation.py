"""What a tool hands on to whatever it calls: the trace, the deadline and its execution id, in OpenTelemetry's context.

The keys are a convention with our client library, which reads them without importing the server.
"""

from opentelemetry.context import Context

from toolwright_server.execution.deadline import Deadline
from toolwright_server.telemetry import CallTrace

DEADLINE_KEY = "toolwright-deadline"
EXECUTION_KEY = "toolwright-execution-id"


class CallContext(Context):
    """The OpenTelemetry context of a call, filled when it is first read: most tools never do, and it costs 10 µs.

    The deadline is an instant on the monotonic clock. Read by `get` and `copy`, the two ways of OpenTelemetry's API.
    """

    def __init__(self, trace: CallTrace, deadline: Deadline, execution_id: str) -> None:
        super().__init__()
        self._call: tuple[CallTrace, Deadline, str] | None = (trace, deadline, execution_id)

    def get(self, key: str, default: object = None) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._fill()
        return super().get(key, default)

    def copy(self) -> dict[str, object]:
        self._fill()
        return super().copy()

    def _fill(self) -> None:
        if self._call is not None:
            trace, deadline, execution_id = self._call
            self._call = None
            # Context forbids changes to everybody else.
            dict[str, object].update(self, {**trace.context(), DEADLINE_KEY: deadline.at, EXECUTION_KEY: execution_id})
