"""How calls are seen: one span, one metric, one log line each; of a batch, a line for each of its calls as well.

Decides nothing about a call.
"""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from toolwright_server.identity import Caller
from toolwright_server.rpc.call import Metadata, Part, RpcCall
from toolwright_server.telemetry.call_log import CallLog
from toolwright_server.telemetry.logs import bind_call
from toolwright_server.telemetry.metrics import Metrics
from toolwright_server.telemetry.tracing import CallTrace, Tracing


class Observer(Protocol):
    """Sees every call twice: when it comes in and, in any case, when it is over."""

    def declare(self, methods: Iterable[str]) -> None:
        """Name the rpcs that there are, before the first call."""
        ...

    def begin(self, method: str, metadata: Metadata) -> CallTrace:
        """A call came in."""
        ...

    def end(self, call: RpcCall) -> None:
        """The call is over; `call.code` and `call.reason` say how it went."""
        ...


# Told of a call that was refused: caller, reason, method, tool.
Refused = Callable[[Caller, str, str, str], None]


class Observed:
    """Calls with trace, metrics and log line; refusals also for the audit trail."""

    def __init__(self, tracing: Tracing, metrics: Metrics, call_log: CallLog, refused: Refused | None = None) -> None:
        self._tracing = tracing
        self._metrics = metrics
        self._call_log = call_log
        self._refused = refused

    def declare(self, methods: Iterable[str]) -> None:
        self._metrics.declare_methods(methods)

    def begin(self, method: str, metadata: Metadata) -> CallTrace:
        trace = self._tracing.server_call(method, *trace_context(metadata))
        # Each call runs in a task of its own, so the binding ends with it.
        bind_call(trace.trace_id, "")
        self._metrics.call_started()
        return trace

    def end(self, call: RpcCall) -> None:
        seconds = time.monotonic() - call.received
        self._metrics.call_finished()
        self._metrics.rpc_call(call.method, call.code, seconds)
        self._tracing.end_server_call(call.trace, call.code, call.reason or None)
        for part in call.parts:
            self._told(call, part)
        self._told(call, Part(call.tool, call.execution_id, call.code, call.reason, seconds))

    def _told(self, call: RpcCall, part: Part) -> None:
        """Its line, and its entry in the audit trail if it was refused."""
        # What became of an execution is said in its own entries; of nobody there is nothing to say.
        if part.reason and not part.execution_id and call.caller.principal and self._refused is not None:
            self._refused(call.caller, part.reason, call.method, part.tool)
        self._call_log.call(
            method=call.method,
            tool=part.tool,
            code=part.code,
            reason=part.reason,
            seconds=part.seconds,
            execution_id=part.execution_id,
            trace_id=call.trace.trace_id,
            caller=f"{call.caller.tenant}/{call.caller.principal}",
        )


class Unobserved:
    """Calls that leave no trace: health checks come every few seconds, from everywhere."""

    _NOWHERE = CallTrace("0" * 32, "0" * 16, 0, None, None)

    def declare(self, methods: Iterable[str]) -> None:
        del methods

    def begin(self, method: str, metadata: Metadata) -> CallTrace:
        del method, metadata
        return self._NOWHERE

    def end(self, call: RpcCall) -> None:
        del call


def trace_context(metadata: Metadata) -> tuple[str | None, str | None]:
    """`(traceparent, tracestate)` of a call. Two traceparents are none; several tracestates are one list."""
    traceparent: str | None = None
    tracestate: str | None = None
    for key, value in metadata:
        if key == "traceparent":
            traceparent = str(value) if traceparent is None else ""
        elif key == "tracestate":
            tracestate = str(value) if tracestate is None else f"{tracestate},{value!s}"
    return traceparent or None, tracestate
