import pytest

from toolwright_server.telemetry.options import TelemetryConfigError, otlp_protocol, read_otel_environment
from toolwright_server.telemetry.resource import server_resource


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, "file", "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, "otlp", "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4317"}, "otlp", "none"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://localhost:4317"}, "file", "otlp"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, "none", "otlp"),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, "otlp", "none"),
        ({"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1"}, "otlp", "none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp"}, "otlp", "otlp"),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, "none", "none"),
        ({"OTEL_SDK_DISABLED": "1"}, "file", "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, "file", "none"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "none", "none"),
        ({"OTEL_TRACES_SAMPLER": "Always_Off", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1"}, "none", "otlp"),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, "file", "none"),
    ],
)
def test_the_environment_says_where_signals_go(environ: dict[str, str], traces: str, metrics: str) -> None:
    read = read_otel_environment(environ)
    assert (read.traces_to, read.metrics_to) == (traces, metrics)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin"),
        ({"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_TRACES_SAMPLER": "always_off"}, "OTEL_TRACES_EXPORTER=zipkin"),
        ({"OTEL_METRICS_EXPORTER": "otlp,console"}, "OTEL_METRICS_EXPORTER=otlp,console"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "PROTOCOL=http/json"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "often"}, "OTEL_METRIC_EXPORT_INTERVAL=often"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "OTEL_METRIC_EXPORT_INTERVAL=0"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(environ: dict[str, str], names: str) -> None:
    with pytest.raises(TelemetryConfigError, match=names):
        read_otel_environment(environ)


def test_the_protocol_of_a_signal_wins_over_the_general_one() -> None:
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}
    assert otlp_protocol(environ, "TRACES") == "http/protobuf"
    assert otlp_protocol(environ, "METRICS") == "grpc"
    assert otlp_protocol({}, "TRACES") == "grpc"


def test_the_interval_is_in_milliseconds() -> None:
    assert read_otel_environment({"OTEL_METRIC_EXPORT_INTERVAL": "1500"}).metric_interval_seconds == 1.5
    assert read_otel_environment({}).metric_interval_seconds == 60


def test_the_server_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    attributes = server_resource("server-1", "0.1.0").attributes
    assert attributes["service.name"] == "toolwright"
    assert attributes["service.instance.id"] == "server-1"
    assert attributes["service.version"] == "0.1.0"


def test_what_the_environment_says_about_the_resource_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "crm-tools")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine,deployment.environment.name=test")
    attributes = server_resource("server-1", "0.1.0").attributes
    assert attributes["service.name"] == "crm-tools"
    assert attributes["service.instance.id"] == "mine"
    assert attributes["deployment.environment.name"] == "test"


def test_processes_that_share_an_environment_are_instances_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    assert server_resource("server-2", "", 2).attributes["service.instance.id"] == "pod-7-2"
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES")
    assert server_resource("server-2", "", 2).attributes["service.instance.id"] == "server-2"
