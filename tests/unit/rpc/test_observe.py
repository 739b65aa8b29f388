"""What an observer makes of metadata and of a call that is over."""

import io
import json
import os
from pathlib import Path

import pytest

from toolwright_server.identity import ANONYMOUS
from toolwright_server.rpc.call import Metadata, RpcCall
from toolwright_server.rpc.observe import Observed, Unobserved, trace_context
from toolwright_server.telemetry import Telemetry, TelemetryOptions

METHOD = "toolwright.v1.ToolExecution/Execute"


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ((), (None, None)),
        ((("user-agent", "x"),), (None, None)),
        ((("traceparent", "a"), ("tracestate", "b=1")), ("a", "b=1")),
        ((("tracestate", "b=1"), ("tracestate", "c=2")), (None, "b=1,c=2")),
        ((("traceparent", "a"), ("traceparent", "b")), (None, None)),
    ],
    ids=["none", "others", "both", "a list in two parts", "two parents are none"],
)
def test_the_trace_context_is_found_among_metadata(metadata: Metadata, found: tuple[str | None, str | None]) -> None:
    assert trace_context(metadata) == found


def test_a_call_is_one_span_one_count_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    telemetry = Telemetry(TelemetryOptions(data_dir=tmp_path, server_id="s", log_format="json"))
    reader, writer = os.pipe()
    telemetry.call_log._descriptor = writer  # pyright: ignore[reportPrivateUsage]
    observed = Observed(telemetry.tracing, telemetry.metrics, telemetry.call_log)
    observed.declare([METHOD])
    trace = observed.begin(METHOD, (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),))
    assert telemetry.metrics.calls_in_flight == 1
    call = RpcCall(METHOD, ANONYMOUS, trace, received=0.0)
    call.code, call.reason, call.tool, call.execution_id = "NOT_FOUND", "TOOL_NOT_FOUND", "t", "e-1"
    observed.end(call)
    assert telemetry.metrics.calls_in_flight == 0
    telemetry.call_log.start()
    telemetry.call_log.close()
    os.close(writer)
    with io.open(reader) as lines:  # noqa: UP020 - a descriptor, not a path
        line = json.loads(lines.read())
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert (line["code"], line["reason"], line["tool"]) == ("NOT_FOUND", "TOOL_NOT_FOUND", "t")
    assert (line["execution_id"], line["caller"]) == ("e-1", "default/anonymous")
    assert 'rpc_response_status_code="NOT_FOUND"' in telemetry.metrics.render()


def test_unobserved_calls_have_a_trace_that_leads_nowhere() -> None:
    unobserved = Unobserved()
    unobserved.declare([METHOD])
    trace = unobserved.begin(METHOD, (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),))
    assert (trace.sampled, trace.span) == (False, None)
    unobserved.end(RpcCall(METHOD, ANONYMOUS, trace, received=0.0))
