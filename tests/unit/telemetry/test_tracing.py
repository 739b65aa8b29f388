from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import sampling as sdk
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags

from toolwright_server.telemetry.sampling import Sampling, sampling_from
from toolwright_server.telemetry.span_buffer import SpanBuffer
from toolwright_server.telemetry.spans import RecordedSpan, SpanRecord
from toolwright_server.telemetry.tracing import SERVER_ERRORS, Tracing

METHOD = "toolwright.v1.ToolExecution/Execute"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01"
NOT_SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
CODES = [
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
]  # fmt: skip
FIELDS = (
    "name", "trace_id", "span_id", "parent_id", "parent_is_remote", "flags", "tracestate", "kind", "start", "end",
    "status", "description", "attributes", "events", "links", "scope",
)  # fmt: skip


class Traced:
    """A Tracing, and the spans that it finished."""

    def __init__(self, sampler: str | Sampling = "parentbased_always_on", **options: bool) -> None:
        self.buffer = SpanBuffer(flush_count=512, max_count=1000)
        sampling = sampling_from(sampler, "") if isinstance(sampler, str) else sampler
        self.tracing = Tracing(sampling, self.buffer, Resource.get_empty(), **{"recording": True, **options})

    def spans(self) -> list[dict[str, Any]]:
        return [dict(zip(FIELDS, record, strict=True)) for record in self.records()]

    def records(self) -> list[SpanRecord]:
        return self.buffer.take()


def test_a_call_leaves_a_server_span_and_a_tool_span_in_the_callers_trace() -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, SAMPLED, "vendor=1")
    tool = traced.tracing.tool_call(call, "crm.contact.get", "0190")
    traced.tracing.end_tool_call(tool, None, None, {"toolwright.attempts": 1})
    traced.tracing.end_server_call(call, "OK", None)
    inner, outer = traced.spans()
    assert outer["name"] == METHOD
    assert outer["kind"] == SpanKind.SERVER.value
    assert (outer["trace_id"], outer["parent_id"], outer["parent_is_remote"]) == (TRACE_ID, SPAN_ID, True)
    assert outer["tracestate"] == "vendor=1"
    assert outer["attributes"] == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
    }
    assert inner["name"] == "execute_tool crm.contact.get"
    assert inner["kind"] == SpanKind.INTERNAL.value
    assert (inner["trace_id"], inner["parent_id"], inner["parent_is_remote"]) == (TRACE_ID, outer["span_id"], False)
    assert inner["attributes"] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "crm.contact.get",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "0190",
        "toolwright.attempts": 1,
    }
    assert outer["start"] <= inner["start"] <= inner["end"] <= outer["end"]


@pytest.mark.parametrize("code", CODES)
def test_only_codes_that_are_the_servers_fault_make_the_server_span_an_error(code: str) -> None:
    traced = Traced()
    traced.tracing.end_server_call(traced.tracing.server_call(METHOD, None, None), code, None)
    (span,) = traced.spans()
    failed = code in {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
    assert (code in SERVER_ERRORS) is failed
    assert span["status"] == (StatusCode.ERROR.value if failed else StatusCode.UNSET.value)
    assert span["attributes"].get("error.type") == (code if failed else None)
    assert span["attributes"]["rpc.response.status_code"] == code


def test_a_refusal_names_its_reason_without_being_an_error_of_the_server() -> None:
    traced = Traced()
    traced.tracing.end_server_call(traced.tracing.server_call(METHOD, None, None), "NOT_FOUND", "TOOL_NOT_FOUND")
    (span,) = traced.spans()
    assert span["status"] == StatusCode.UNSET.value
    assert span["attributes"]["error.type"] == "TOOL_NOT_FOUND"


def test_a_tool_that_failed_is_an_error_although_the_call_was_answered() -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, None, None)
    tool = traced.tracing.tool_call(call, "diagnostics.fail", "0190")
    traced.tracing.end_tool_call(tool, "TOOL_FAILED", "it was asked to", {})
    traced.tracing.end_server_call(call, "OK", None)
    inner, outer = traced.spans()
    assert (inner["status"], inner["description"]) == (StatusCode.ERROR.value, "it was asked to")
    assert inner["attributes"]["error.type"] == "TOOL_FAILED"
    assert outer["status"] == StatusCode.UNSET.value


def test_a_call_that_is_not_sampled_makes_no_span_and_passes_the_decision_on() -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, NOT_SAMPLED, "vendor=1")
    tool = traced.tracing.tool_call(call, "crm.contact.get", "0190")
    assert tool is call
    assert call.span is None
    assert not call.sampled
    assert traced.tracing.headers(tool) == {
        "traceparent": f"00-{TRACE_ID}-{call.span_id}-00",
        "tracestate": "vendor=1",
    }
    traced.tracing.end_tool_call(tool, "TOOL_FAILED", "x", {"a": 1})
    traced.tracing.end_server_call(call, "INTERNAL", None)
    assert traced.spans() == []


@pytest.mark.parametrize("traceparent", [SAMPLED, NOT_SAMPLED, None])
def test_what_a_tool_injects_is_what_headers_says(traceparent: str | None) -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, traceparent, "vendor=1,other=2" if traceparent else None)
    tool = traced.tracing.tool_call(call, "crm.contact.get", "0190")
    carrier: dict[str, str] = {}
    propagate.inject(carrier, traced.tracing.context(tool))
    assert carrier == traced.tracing.headers(tool)
    assert carrier["traceparent"].split("-")[1] == tool.trace_id
    assert carrier["traceparent"].split("-")[2] == tool.span_id


@pytest.mark.parametrize("traceparent", ["nonsense", f"00-{'0' * 32}-{SPAN_ID}-01", f"ff-{TRACE_ID}-{SPAN_ID}-01"])
def test_a_wrong_traceparent_begins_a_new_trace_without_its_tracestate(traceparent: str) -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, traceparent, "vendor=1")
    assert call.trace_id != TRACE_ID
    assert call.tracestate is None
    traced.tracing.end_server_call(call, "OK", None)
    assert traced.spans()[0]["parent_id"] == ""


def test_an_endless_tracestate_is_left_out() -> None:
    call = Traced().tracing.server_call(METHOD, SAMPLED, "a=" + "b" * 10_000)
    assert call.tracestate is None


def test_ids_are_new_for_every_call() -> None:
    tracing = Traced().tracing
    calls = [tracing.server_call(METHOD, None, None) for _ in range(1000)]
    assert len({call.trace_id for call in calls}) == len({call.span_id for call in calls}) == 1000
    assert all(len(call.trace_id) == 32 and len(call.span_id) == 16 for call in calls)


def test_spans_that_a_tool_starts_itself_nest_below_its_own() -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, SAMPLED, None)
    tool = traced.tracing.tool_call(call, "crm.contact.get", "0190")
    tracer = traced.tracing.provider.get_tracer("a-toolkit", "1.2")
    link = Link(SpanContext(1, 2, True, TraceFlags(1)), {"why": "retry"})
    with tracer.start_as_current_span("query", traced.tracing.context(tool), links=[link]) as span:
        span.add_event("row", {"n": 1})
    traced.tracing.end_tool_call(tool, None, None, None)
    query, execute = traced.spans()
    assert (query["trace_id"], query["parent_id"]) == (TRACE_ID, execute["span_id"])
    assert query["scope"] == ("a-toolkit", "1.2", "")
    assert [(event[0], event[2]) for event in query["events"]] == [("row", {"n": 1})]
    assert query["links"] == [("0" * 31 + "1", "0" * 15 + "2", 1, "", {"why": "retry"})]


def test_spans_of_a_tool_whose_call_is_not_sampled_are_not_kept() -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, NOT_SAMPLED, None)
    with traced.tracing.provider.get_tracer("t").start_as_current_span("query", traced.tracing.context(call)):
        pass
    assert traced.spans() == []


def test_a_tool_may_write_into_its_span_until_it_ends() -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, None, None)
    span = trace.get_current_span(traced.tracing.context(call))
    span.set_attributes({"rows": 3})
    span.add_link(SpanContext(1, 2, True, TraceFlags(1)))
    span.update_name("renamed")
    span.set_status(StatusCode.UNSET)
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "too late: OK is final")
    with pytest.raises(ZeroDivisionError), trace.use_span(span):
        _ = 1 / 0
    assert span.is_recording()
    span.end()
    span.end()
    span.set_attribute("late", 1)
    span.update_name("late")
    span.add_event("late")
    assert not span.is_recording()
    (record,) = traced.spans()
    assert record["name"] == "renamed"
    assert record["attributes"]["rows"] == 3
    assert "late" not in record["attributes"]
    assert record["status"] == StatusCode.OK.value
    (event,) = record["events"]
    assert event[0] == "exception"
    assert event[2]["exception.type"] == "ZeroDivisionError"


def test_the_number_of_attributes_and_events_of_a_span_is_bounded() -> None:
    traced = Traced()
    call = traced.tracing.server_call(METHOD, None, None)
    assert isinstance(call.span, RecordedSpan)
    for number in range(1000):
        call.span.set_attribute(f"a{number}", number)
        call.span.add_event("event")
        call.span.add_link(SpanContext(1, 2, True, TraceFlags(1)))
    call.span.end()
    (record,) = traced.spans()
    assert len(record["attributes"]) == len(record["events"]) == len(record["links"]) == 128


def test_without_an_exporter_the_decision_is_passed_on_and_no_span_is_made() -> None:
    traced = Traced(recording=False)
    call = traced.tracing.server_call(METHOD, SAMPLED, None)
    assert call.span is None
    assert traced.tracing.headers(call)["traceparent"] == f"00-{TRACE_ID}-{call.span_id}-01"
    with traced.tracing.provider.get_tracer("t").start_as_current_span("query"):
        pass
    assert traced.spans() == []


def test_a_disabled_sdk_passes_the_callers_context_on_untouched() -> None:
    traced = Traced(recording=False, disabled=True)
    call = traced.tracing.server_call(METHOD, SAMPLED, "vendor=1")
    assert traced.tracing.headers(call) == {"traceparent": SAMPLED, "tracestate": "vendor=1"}
    alone = traced.tracing.server_call(METHOD, None, None)
    assert not alone.sampled
    assert len(alone.trace_id) == 32


class NamedSampler(sdk.Sampler):
    """Samples tools and nothing else, marks what it samples, records servers without sampling them."""

    def should_sample(self, *arguments: Any, **keywords: Any) -> sdk.SamplingResult:
        name = keywords.get("name") or arguments[2]
        if str(name).startswith("execute_tool"):
            return sdk.SamplingResult(sdk.Decision.RECORD_AND_SAMPLE, {"by": "name"})
        return sdk.SamplingResult(sdk.Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "NamedSampler"


def test_a_sampler_of_ones_own_decides_for_each_span() -> None:
    traced = Traced(Sampling(None, NamedSampler()))
    call = traced.tracing.server_call(METHOD, SAMPLED, None)
    assert (call.trace_id, call.sampled) == (TRACE_ID, False)
    tool = traced.tracing.tool_call(call, "crm.contact.get", "0190")
    assert (tool.trace_id, tool.sampled) == (TRACE_ID, True)
    traced.tracing.end_tool_call(tool, "TOOL_FAILED", "no", None)
    traced.tracing.end_server_call(call, "OK", None)
    (span,) = traced.spans()
    assert span["name"] == "execute_tool crm.contact.get"
    assert span["attributes"]["by"] == "name"
    assert (span["status"], span["description"]) == (StatusCode.ERROR.value, "no")


def test_the_context_of_a_call_carries_nothing_but_its_span() -> None:
    tracing = Traced().tracing
    call = tracing.server_call(METHOD, None, None)
    assert tracing.context(call) is tracing.context(call)
    assert isinstance(tracing.context(call), Context)
    assert len(tracing.context(call)) == 1
