"""The two spans of a call, one of the server and one of the tool, and the W3C context in and out.

Sampling is decided before any span object exists: a call that is not traced costs a few strings.
Never exports: finished spans go to the span buffer.
"""

from collections.abc import Mapping
from random import getrandbits
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue

from toolwright_server.telemetry import traceparent as w3c
from toolwright_server.telemetry.sampling import Sampling
from toolwright_server.telemetry.span_buffer import SpanBuffer
from toolwright_server.telemetry.spans import RecordedSpan, tracestate_from

SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""gRPC codes that count as the server's fault. Source: OpenTelemetry's conventions for gRPC, server spans."""

_SERVER = SpanKind.SERVER.value
_INTERNAL = SpanKind.INTERNAL.value
_ERROR = trace.StatusCode.ERROR.value
_MAX_TRACESTATE = 8192
_ROOT_FLAGS = w3c.RANDOM


class CallTrace:
    """Where a call stands in its trace: ids as hex, `span_id` is what children name as their parent."""

    __slots__ = ("_context", "flags", "sampled", "span", "span_id", "trace_id", "tracestate")

    def __init__(
        self, trace_id: str, span_id: str, flags: int, tracestate: str | None, span: trace.Span | None
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.sampled = bool(flags & w3c.SAMPLED)
        self.tracestate = tracestate
        self.span = span
        self._context: Context | None = None

    def context(self) -> Context:
        """The OpenTelemetry context of this call, made once."""
        if self._context is None:
            self._context = trace.set_span_in_context(self.span or NonRecordingSpan(self.span_context()), Context())
        return self._context

    def span_context(self, *, is_remote: bool = False) -> SpanContext:
        state = tracestate_from(self.tracestate)
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), is_remote, TraceFlags(self.flags), state)


class Tracing:
    """Starts and ends the spans of calls. One per server; used from the event loop."""

    def __init__(
        self, sampling: Sampling, buffer: SpanBuffer, resource: Resource, *, recording: bool, disabled: bool = False
    ) -> None:
        """`recording` False makes no spans and still passes the decision on; `disabled` decides nothing at all."""
        self._decide = sampling.decide
        self._recording = recording
        self._disabled = disabled
        self._limits = SpanLimits()
        self._on_end = buffer.add
        self.provider = TracerProvider(sampler=sampling.for_provider, resource=resource, shutdown_on_exit=False)
        if recording:
            self.provider.add_span_processor(buffer)
        self._tracer = self.provider.get_tracer("toolwright")

    def server_call(self, method: str, traceparent: str | None, tracestate: str | None) -> CallTrace:
        """Begin the server span of `method` ("toolwright.v1.ToolExecution/Execute") below the caller's, if any."""
        parent = w3c.parse(traceparent)
        if parent is None:
            trace_id = f"{getrandbits(128) or 1:032x}"
            parent_sampled, parent_id, flags, tracestate = None, "", _ROOT_FLAGS, None
        else:
            trace_id, parent_id, flags = parent
            parent_sampled = bool(flags & w3c.SAMPLED)
            flags &= w3c.RANDOM
            if tracestate is not None and len(tracestate) > _MAX_TRACESTATE:
                tracestate = None
        if self._disabled:
            return self._pass_on(trace_id, parent_id, flags, tracestate, sampled=bool(parent_sampled))
        if self._decide is None:
            return self._asked_sdk(method, parent, tracestate)
        span_id = f"{getrandbits(64) or 1:016x}"
        if not self._decide(parent_sampled, trace_id):
            return CallTrace(trace_id, span_id, flags, tracestate, None)
        flags |= w3c.SAMPLED
        if not self._recording:
            return CallTrace(trace_id, span_id, flags, tracestate, None)
        span = RecordedSpan(
            name=method,
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent_id,
            parent_is_remote=bool(parent_id),
            flags=flags,
            tracestate=tracestate,
            kind=_SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
            limits=self._limits,
            on_end=self._on_end,
        )
        return CallTrace(trace_id, span_id, flags, tracestate, span)

    def end_server_call(self, trace: CallTrace, code: str, error_type: str | None) -> None:
        """End the server span with the gRPC status `code` ("OK", "DEADLINE_EXCEEDED", ...).

        Only codes that are the server's fault make the span an error; `error_type` is the reason in our own words.
        """
        span = trace.span
        if span is None:
            return
        span.set_attribute("rpc.response.status_code", code)
        if code in SERVER_ERRORS:
            span.set_attribute("error.type", error_type or code)
            _mark_failed(span, None)
        elif error_type is not None:
            span.set_attribute("error.type", error_type)
        span.end()

    def tool_call(self, parent: CallTrace, tool: str, execution_id: str) -> CallTrace:
        """Begin the span of one execution below `parent`; a call that is not traced gets `parent` back."""
        if parent.span is None and self._decide is not None:
            return parent
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": execution_id,
        }
        name = f"execute_tool {tool}"
        if not isinstance(parent.span, RecordedSpan):
            return _from_sdk(self._tracer.start_span(name, parent.context(), attributes=attributes), parent.tracestate)
        span_id = f"{getrandbits(64) or 1:016x}"
        span = RecordedSpan(
            name=name,
            trace_id=parent.trace_id,
            span_id=span_id,
            parent_id=parent.span_id,
            parent_is_remote=False,
            flags=parent.flags,
            tracestate=parent.tracestate,
            kind=_INTERNAL,
            attributes=attributes,
            limits=self._limits,
            on_end=self._on_end,
        )
        return CallTrace(parent.trace_id, span_id, parent.flags, parent.tracestate, span)

    def end_tool_call(
        self,
        trace: CallTrace,
        error_type: str | None,
        message: str | None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        """End the tool's span; with `error_type` it is an error, described by `message` (for operators)."""
        span = trace.span
        if span is None:
            return
        if attributes:
            span.set_attributes(attributes)
        if error_type is not None:
            span.set_attribute("error.type", error_type)
            _mark_failed(span, message)
        span.end()

    def context(self, trace: CallTrace) -> Context:
        """The OpenTelemetry context to attach in the tool's task: its spans and requests then belong to this call."""
        return trace.context()

    def headers(self, trace: CallTrace) -> dict[str, str]:
        """The W3C headers to send to whatever the tool calls."""
        headers = {"traceparent": w3c.render(trace.trace_id, trace.span_id, trace.flags)}
        state = tracestate_from(trace.tracestate)
        if state:
            headers["tracestate"] = state.to_header()
        return headers

    def _asked_sdk(self, method: str, parent: w3c.RemoteParent | None, tracestate: str | None) -> CallTrace:
        context = Context()
        if parent is not None:
            remote = CallTrace(*parent, tracestate, None).span_context(is_remote=True)
            context = trace.set_span_in_context(NonRecordingSpan(remote), context)
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        return _from_sdk(self._tracer.start_span(method, context, SpanKind.SERVER, attributes), tracestate)

    def _pass_on(
        self, trace_id: str, parent_id: str, flags: int, tracestate: str | None, *, sampled: bool
    ) -> CallTrace:
        span_id = parent_id or f"{getrandbits(64) or 1:016x}"
        return CallTrace(trace_id, span_id, flags | w3c.SAMPLED if sampled else flags, tracestate, None)


def _mark_failed(span: trace.Span, message: str | None) -> None:
    if isinstance(span, RecordedSpan):
        span.status, span.description = _ERROR, message
    else:
        span.set_status(trace.StatusCode.ERROR, message)


def _from_sdk(span: trace.Span, tracestate: str | None) -> CallTrace:
    context = span.get_span_context()
    state = context.trace_state.to_header() or tracestate
    return CallTrace(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        int(context.trace_flags),
        state,
        span if span.is_recording() else None,
    )
