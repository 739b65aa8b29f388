from toolwright_server.telemetry.instruments import Counter, Gauge, Histogram, MetricSnapshot
from toolwright_server.telemetry.merging import lasting, merged
from toolwright_server.telemetry.prometheus import render


def snapshots(calls: int, lag: float, running: int, *seconds: float) -> list[MetricSnapshot]:
    counter = Counter("calls", "{call}", "Calls.", ("tool",))
    counter.add(calls, ("echo",))
    if calls > 5:
        counter.add(1, ("sleep",))
    histogram = Histogram("took", "s", "Took.", (0.1, 1.0), ("tool",))
    for each in seconds:
        histogram.record(each, ("echo",))
    return [
        counter.snapshot(),
        histogram.snapshot(),
        Gauge("lag", "s", "Lag.", lambda: lag).snapshot(),
        Gauge("running", "{call}", "Running.", lambda: running, kind="updown").snapshot(),
    ]


def lines(*parts: tuple[str, list[MetricSnapshot]]) -> set[str]:
    return {line for line in render(merged(parts)).splitlines() if not line.startswith("#")}


def test_what_is_counted_is_added_up_and_what_one_process_measures_stays_its_own() -> None:
    assert lines(("a-1", snapshots(3, 0.25, 2, 0.05, 0.5)), ("a-2", snapshots(6, 0.5, 5, 0.05, 7.0))) == {
        'calls_total{tool="echo"} 9',
        'calls_total{tool="sleep"} 1',
        'took_seconds_bucket{tool="echo",le="0.1"} 2',
        'took_seconds_bucket{tool="echo",le="1"} 3',
        'took_seconds_bucket{tool="echo",le="+Inf"} 4',
        'took_seconds_sum{tool="echo"} 7.6',
        'took_seconds_count{tool="echo"} 4',
        'lag_seconds{service_instance_id="a-1"} 0.25',
        'lag_seconds{service_instance_id="a-2"} 0.5',
        "running 7",
    }


def test_each_metric_is_named_once_however_many_processes_have_it() -> None:
    text = render(merged([(f"a-{n}", snapshots(1, 0, 0, 0.1)) for n in range(5)]))
    assert text.count("# TYPE calls_total counter") == 1


def test_what_an_ended_process_counted_stays_and_what_it_was_at_goes() -> None:
    gone = lasting(snapshots(3, 0.25, 2, 0.05))
    assert lines(("", gone), ("a-2", snapshots(1, 0.5, 1))) == {
        'calls_total{tool="echo"} 4',
        'took_seconds_bucket{tool="echo",le="0.1"} 1',
        'took_seconds_bucket{tool="echo",le="1"} 1',
        'took_seconds_bucket{tool="echo",le="+Inf"} 1',
        'took_seconds_sum{tool="echo"} 0.05',
        'took_seconds_count{tool="echo"} 1',
        'lag_seconds{service_instance_id="a-2"} 0.5',
        "running 1",
    }


def test_merging_leaves_the_parts_as_they_were() -> None:
    one, two = snapshots(3, 0, 1, 0.1), snapshots(4, 0, 1, 0.1)
    before = render(one), render(two)
    merged([("a", one), ("b", two)])
    assert (render(one), render(two)) == before


def test_the_whole_began_with_its_first_process() -> None:
    one, two = snapshots(3, 0, 1)[:1], snapshots(4, 0, 1)[:1]
    (whole,) = merged([("b", two), ("a", one)])
    assert whole["start_ns"] == one[0]["start_ns"]
    assert whole["time_ns"] == two[0]["time_ns"]
