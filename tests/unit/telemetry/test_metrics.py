import math
import re

import pytest

from toolwright_server.telemetry.deltas import Deltas
from toolwright_server.telemetry.instruments import MAX_SERIES, Counter, Histogram, MetricSnapshot
from toolwright_server.telemetry.metrics import Metrics
from toolwright_server.telemetry.prometheus import render

METHOD = "toolwright.v1.ToolExecution/Execute"
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Every sample of a Prometheus text, read by the format's grammar; anything else in it is a failure."""
    samples: Samples = {}
    assert text.endswith("\n")
    for line in text.removesuffix("\n").split("\n"):
        if re.fullmatch(r"# (HELP [a-zA-Z_:]\S* .*|TYPE [a-zA-Z_:]\S* (counter|gauge|histogram))", line):
            continue
        found = _SAMPLE.fullmatch(line)
        assert found is not None, line
        name, labels, value = found.groups()
        pairs = _LABEL.findall(labels or "")
        assert "".join(f'{key}="{text}",' for key, text in pairs).rstrip(",") == (labels or "").rstrip(","), line
        key = (str(name), frozenset((str(label), _unescaped(str(text))) for label, text in pairs))
        assert key not in samples, f"twice: {line}"
        samples[key] = float(value)
    return samples


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def labels(**pairs: str) -> frozenset[tuple[str, str]]:
    return frozenset(pairs.items())


def metric(snapshots: list[MetricSnapshot], name: str) -> MetricSnapshot:
    (found,) = [snapshot for snapshot in snapshots if snapshot["name"] == name]
    return found


def test_calls_become_a_histogram_by_method_and_code() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.003, 0.003, 100.0):
        metrics.rpc_call(METHOD, "OK", seconds)
    metrics.rpc_call(METHOD, "INTERNAL", 0.2)
    metrics.rpc_call(METHOD, "NOT_FOUND", 0.2)
    samples = parsed(metrics.render())
    name = "rpc_server_call_duration_seconds"
    good = {"rpc_system_name": "grpc", "rpc_method": METHOD, "rpc_response_status_code": "OK"}
    assert samples[f"{name}_count", labels(**good)] == 4
    assert samples[f"{name}_sum", labels(**good)] == pytest.approx(100.0064)
    assert samples[f"{name}_bucket", labels(**good, le="0.0005")] == 1
    assert samples[f"{name}_bucket", labels(**good, le="0.005")] == 3
    assert samples[f"{name}_bucket", labels(**good, le="60")] == 3
    assert samples[f"{name}_bucket", labels(**good, le="+Inf")] == 4
    failed = good | {"rpc_response_status_code": "INTERNAL", "error_type": "INTERNAL"}
    assert samples[f"{name}_count", labels(**failed)] == 1
    refused = good | {"rpc_response_status_code": "NOT_FOUND"}
    assert samples[f"{name}_count", labels(**refused)] == 1, "a refusal is no error of the server"


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram("h", "s", "", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.record(value)
    assert histogram.points()[0]["counts"] == [2, 2, 1]


def test_tools_become_a_histogram_by_name_and_error() -> None:
    metrics = Metrics()
    metrics.tool_call("crm.contact.get", None, 0.1)
    metrics.tool_call("crm.contact.get", "TOOL_TIMEOUT", 5)
    samples = parsed(metrics.render())
    tool = {"gen_ai_operation_name": "execute_tool", "gen_ai_tool_name": "crm.contact.get"}
    name = "gen_ai_execute_tool_duration_seconds_count"
    assert samples[name, labels(**tool)] == 1
    assert samples[name, labels(**tool, error_type="TOOL_TIMEOUT")] == 1


def test_methods_that_do_not_exist_are_counted_together() -> None:
    metrics = Metrics()
    metrics.declare_methods([METHOD])
    metrics.rpc_call(METHOD, "OK", 1)
    for number in range(5000):
        metrics.rpc_call(f"made.Up/{number}", "UNIMPLEMENTED", 1)
    points = metric(metrics.snapshot(), "rpc.server.call.duration")["points"]
    assert {point["attributes"]["rpc.method"]: sum(point["counts"]) for point in points} == {METHOD: 1, "_OTHER": 5000}


def test_series_beyond_the_limit_are_gathered_in_one_that_says_so() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 500):
        metrics.tool_call(f"tool.{number}", None, 1)
        metrics.worker_killed(f"reason {number}")
    for name in ("gen_ai.execute_tool.duration", "toolwright.worker.kills"):
        points = metric(metrics.snapshot(), name)["points"]
        assert len(points) == MAX_SERIES + 1
        (overflow,) = [point for point in points if "otel.metric.overflow" in point["attributes"]]
        assert (sum(overflow["counts"]) or overflow["value"]) == 500


def test_counters_and_gauges_say_what_was_told_to_them() -> None:
    metrics = Metrics()
    metrics.call_started()
    metrics.call_started()
    metrics.call_finished()
    metrics.loop_lag(0.25)
    metrics.loop_blocked("diagnostics.block")
    metrics.loop_blocked("")
    metrics.worker_killed("deadline")
    metrics.stubborn_tool("a.b")
    metrics.spans_dropped(3, "queue_full")
    metrics.spans_exported(7)
    metrics.spans_exported(2, "export_failed")
    metrics.observe("toolwright.workers", lambda: 4)
    metrics.observe("my.own", lambda: 0.5, unit="s", description="Mine,\nreally")
    samples = parsed(metrics.render())
    assert samples["toolwright_calls_in_flight", labels()] == 1
    assert samples["toolwright_loop_lag_last_seconds", labels()] == 0.25
    assert samples["toolwright_loop_lag_seconds_count", labels()] == 1
    assert samples["toolwright_loop_blocked_total", labels(gen_ai_tool_name="diagnostics.block")] == 1
    assert samples["toolwright_loop_blocked_total", labels(gen_ai_tool_name="none")] == 1
    assert samples["toolwright_worker_kills_total", labels(reason="deadline")] == 1
    assert samples["toolwright_tools_stubborn_total", labels(gen_ai_tool_name="a.b")] == 1
    assert samples["otel_sdk_processor_span_processed_total", labels(error_type="queue_full")] == 3
    assert samples["otel_sdk_exporter_span_exported_total", labels()] == 7
    assert samples["otel_sdk_exporter_span_exported_total", labels(error_type="export_failed")] == 2
    assert samples["toolwright_workers", labels()] == 4
    assert samples["my_own_seconds", labels()] == 0.5


def test_a_gauge_that_cannot_be_read_hides_no_other_metric() -> None:
    metrics = Metrics()
    metrics.observe("broken", lambda: 1 / 0)
    metrics.worker_killed("deadline")
    samples = parsed(metrics.render())
    assert ("toolwright_worker_kills_total", labels(reason="deadline")) in samples
    assert not [name for name, _ in samples if name == "broken"]


@pytest.mark.parametrize("text", ['quo"te', "back\\slash", "line\nfeed", "\\n", "ünï", 'a="b",c="d"'])
def test_label_values_survive_whatever_is_in_them(text: str) -> None:
    metrics = Metrics()
    metrics.worker_killed(text)
    assert parsed(metrics.render())["toolwright_worker_kills_total", labels(reason=text)] == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (2.0, "2"), (0.1, "0.1"), (1e300, "1e+300"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")],
)
def test_numbers_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    counter = Counter("c", "1", "")
    counter.add(value)
    assert render([counter.snapshot()]).splitlines()[-1] == f"c_total {text}"


def test_deltas_are_what_was_added_since_the_last_time() -> None:
    metrics = Metrics()
    deltas = Deltas()
    metrics.call_started()
    metrics.worker_killed("deadline")
    metrics.rpc_call(METHOD, "OK", 0.003)
    first = deltas.since_last(metrics.snapshot())
    metrics.worker_killed("deadline")
    metrics.worker_killed("memory")
    metrics.rpc_call(METHOD, "OK", 0.003)
    metrics.rpc_call(METHOD, "OK", 30)
    second = deltas.since_last(metrics.snapshot())
    kills = [
        {point["attributes"]["reason"]: point["value"] for point in metric(each, "toolwright.worker.kills")["points"]}
        for each in (first, second)
    ]
    assert kills == [{"deadline": 1}, {"deadline": 1, "memory": 1}]
    calls = [metric(each, "rpc.server.call.duration") for each in (first, second)]
    assert [sum(each["points"][0]["counts"]) for each in calls] == [1, 2]
    assert calls[1]["points"][0]["sum"] == pytest.approx(30.003)
    assert calls[1]["start_ns"] == calls[0]["time_ns"]
    in_flight = metric(second, "toolwright.calls.in_flight")
    assert in_flight["points"][0]["value"] == 1, "what goes up and down stays as it is"
