"""Metric snapshots of several processes as those of one server. Reads no instrument.

What is counted is added up: counters, histograms, and gauges of how many there are ("updown"). Any other gauge says
something of one process alone (how late its loop was) and stays apart, under that process's `service.instance.id`.
"""

from collections.abc import Iterable, Sequence

from toolwright_server.telemetry.instruments import MetricSnapshot, Point

INSTANCE = "service.instance.id"

_Key = tuple[tuple[str, str], ...]


def merged(parts: Iterable[tuple[str, Sequence[MetricSnapshot]]]) -> list[MetricSnapshot]:
    """One snapshot of each metric, in the order in which they are first met. `parts`: a process's name, and its own."""
    whole: dict[str, MetricSnapshot] = {}
    points: dict[str, dict[_Key, Point]] = {}
    for instance, snapshots in parts:
        for snapshot in snapshots:
            name = snapshot["name"]
            known = whole.get(name)
            if known is None:
                whole[name] = {**snapshot, "points": []}
            else:
                known["start_ns"] = min(known["start_ns"], snapshot["start_ns"])
                known["time_ns"] = max(known["time_ns"], snapshot["time_ns"])
            found = points.setdefault(name, {})
            for point in snapshot["points"]:
                _add(found, _named(point, instance) if snapshot["kind"] == "gauge" else point)
    for name, found in points.items():
        whole[name]["points"] = list(found.values())
    return list(whole.values())


def lasting(snapshots: Iterable[MetricSnapshot]) -> list[MetricSnapshot]:
    """What outlives the process that counted it: without it a sum would fall when the process ends."""
    return [snapshot for snapshot in snapshots if snapshot["kind"] in ("counter", "histogram")]


def _named(point: Point, instance: str) -> Point:
    return {**point, "attributes": {**point["attributes"], INSTANCE: instance}}


def _add(found: dict[_Key, Point], point: Point) -> None:
    key = tuple(sorted(point["attributes"].items()))
    other = found.get(key)
    if other is None:
        found[key] = point
        return
    found[key] = {
        "attributes": point["attributes"],
        "value": other["value"] + point["value"],
        "counts": [one + two for one, two in zip(other["counts"], point["counts"], strict=True)],
        "sum": other["sum"] + point["sum"],
    }
