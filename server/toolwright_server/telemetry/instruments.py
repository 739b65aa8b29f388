"""Counters, gauges and histograms kept by hand: a record is a dictionary look-up and an addition.

A snapshot of them is plain data that becomes Prometheus text or OTLP elsewhere. Without locks: each series is
written by one thread and may be read by another, which at worst sees a histogram one record ahead of its sum.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Literal, TypedDict

Labels = tuple[str, ...]
Kind = Literal["counter", "updown", "gauge", "histogram"]

MAX_SERIES = 2000
"""Series of one instrument; what comes after is gathered in one that is marked as overflow, as OpenTelemetry does."""

OVERFLOW = {"otel.metric.overflow": "true"}


class Point(TypedDict):
    """One series: `value` for numbers, `counts` (one more than bounds) and `sum` for histograms."""

    attributes: dict[str, str]
    value: float
    counts: list[int]
    sum: float


class MetricSnapshot(TypedDict):
    """One instrument at one moment. Times are Unix nanoseconds."""

    name: str
    unit: str
    description: str
    kind: Kind
    bounds: list[float]
    start_ns: int
    time_ns: int
    points: list[Point]


class Instrument:
    """Name, unit and labels that the kinds share. Labels with an empty value are left out of the attributes."""

    kind: Kind = "counter"

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        labels: Sequence[str] = (),
        *,
        constant: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self.labels = tuple(labels)
        self.constant = constant or {}
        self.start_ns = time_ns()

    def points(self) -> list[Point]:
        raise NotImplementedError(f"{type(self).__name__} has no points")

    def snapshot(self) -> MetricSnapshot:
        return {
            "name": self.name,
            "unit": self.unit,
            "description": self.description,
            "kind": self.kind,
            "bounds": [],
            "start_ns": self.start_ns,
            "time_ns": time_ns(),
            "points": self.points(),
        }

    def attributes(self, values: Labels | None) -> dict[str, str]:
        """The attributes of a series; None stands for the overflow."""
        if values is None:
            return dict(OVERFLOW)
        return self.constant | {key: value for key, value in zip(self.labels, values, strict=True) if value}


class Counter(Instrument):
    """A sum that only grows."""

    kind: Kind = "counter"

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        labels: Sequence[str] = (),
        *,
        constant: dict[str, str] | None = None,
    ) -> None:
        super().__init__(name, unit, description, labels, constant=constant)
        self._values: dict[Labels | None, float] = {} if labels else {(): 0}

    def add(self, amount: float = 1, values: Labels = ()) -> None:
        key = values if values in self._values or len(self._values) < MAX_SERIES else None
        self._values[key] = self._values.get(key, 0) + amount

    def points(self) -> list[Point]:
        return [_number(self.attributes(values), value) for values, value in list(self._values.items())]


class Gauge(Instrument):
    """A value that a callback reads when somebody looks; it is called from any thread and must be quick."""

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        read: Callable[[], float],
        *,
        kind: Literal["gauge", "updown"] = "gauge",
    ) -> None:
        super().__init__(name, unit, description)
        self.kind = kind
        self._read = read

    def points(self) -> list[Point]:
        return [_number({}, self._read())]


class Gauges(Instrument):
    """A value for each label, all of which a callback reads when somebody looks, as a Gauge's."""

    kind: Kind = "gauge"

    def __init__(
        self, name: str, unit: str, description: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        super().__init__(name, unit, description, (label,))
        self._read = read

    def points(self) -> list[Point]:
        return [_number(self.attributes((value,)), number) for value, number in self._read().items()]


class Series:
    """One histogram series: counts per bucket, and the sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


class Histogram(Instrument):
    """Counts per bucket; a value equal to a bound belongs to the bucket below it, as OTLP and Prometheus both want."""

    kind: Kind = "histogram"

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
        *,
        constant: dict[str, str] | None = None,
    ) -> None:
        super().__init__(name, unit, description, labels, constant=constant)
        self.bounds = list(bounds)
        self._series: dict[Labels | None, Series] = {}

    def series(self, values: Labels) -> Series:
        """The series of these label values, made at its first use; the overflow series when there are too many."""
        key = values if values in self._series or len(self._series) < MAX_SERIES else None
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Series(len(self.bounds) + 1)
        return found

    def record(self, value: float, values: Labels = ()) -> None:
        series = self._series.get(values) or self.series(values)
        series.counts[bisect_left(self.bounds, value)] += 1
        series.sum += value

    def points(self) -> list[Point]:
        return [
            {"attributes": self.attributes(values), "value": 0.0, "counts": list(series.counts), "sum": series.sum}
            for values, series in list(self._series.items())
        ]

    def snapshot(self) -> MetricSnapshot:
        return {**super().snapshot(), "bounds": self.bounds}


def _number(attributes: dict[str, str], value: float) -> Point:
    return {"attributes": attributes, "value": value, "counts": [], "sum": 0.0}
