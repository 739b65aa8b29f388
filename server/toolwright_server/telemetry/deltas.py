"""Cumulative metric snapshots turned into differences, for backends that ask for delta temporality.

Gauges and sums that go up and down stay as they are, as OpenTelemetry's "delta" preference says.
"""

from collections.abc import Iterable

from toolwright_server.telemetry.instruments import MetricSnapshot, Point

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Deltas:
    """Remembers what was sent last; one per exporter."""

    def __init__(self) -> None:
        self._points: dict[_Key, Point] = {}
        self._times: dict[str, int] = {}

    def since_last(self, snapshots: Iterable[MetricSnapshot]) -> list[MetricSnapshot]:
        """The same metrics as differences to the last call."""
        return [self._difference(each) if each["kind"] in ("counter", "histogram") else each for each in snapshots]

    def _difference(self, snapshot: MetricSnapshot) -> MetricSnapshot:
        name = snapshot["name"]
        start = self._times.get(name, snapshot["start_ns"])
        self._times[name] = snapshot["time_ns"]
        return {**snapshot, "start_ns": start, "points": [self._less(name, point) for point in snapshot["points"]]}

    def _less(self, name: str, point: Point) -> Point:
        key = (name, tuple(sorted(point["attributes"].items())))
        last = self._points.get(key)
        self._points[key] = point
        if last is None:
            return point
        return {
            "attributes": point["attributes"],
            "value": point["value"] - last["value"],
            "counts": [now - before for now, before in zip(point["counts"], last["counts"], strict=True)],
            "sum": point["sum"] - last["sum"],
        }
