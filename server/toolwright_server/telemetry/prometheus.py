"""Metric snapshots as Prometheus text, named by OpenTelemetry's rules: dots to underscores, unit and `_total` last.

Never reads an instrument itself.
"""

import math
import re
from collections.abc import Iterable

from toolwright_server.telemetry.instruments import MetricSnapshot, Point

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_EXACT = 2**53
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_]")
_TYPES = {"counter": "counter", "updown": "gauge", "gauge": "gauge", "histogram": "histogram"}
# Units in braces are annotations ("{call}") and "1" is a plain number: neither becomes a suffix.
_UNITS = {"s": "_seconds", "By": "_bytes"}


def render(snapshots: Iterable[MetricSnapshot]) -> str:
    """The text of all snapshots, ended by a line feed."""
    lines: list[str] = []
    for snapshot in snapshots:
        lines += _metric(snapshot)
    return "\n".join(lines) + "\n"


def metric_name(snapshot: MetricSnapshot) -> str:
    """The Prometheus name of an instrument."""
    name = _FORBIDDEN.sub("_", snapshot["name"])
    unit = _UNITS.get(snapshot["unit"], "")
    if not name.endswith(unit):
        name += unit
    return f"{name}_total" if snapshot["kind"] == "counter" else name


def _metric(snapshot: MetricSnapshot) -> list[str]:
    name = metric_name(snapshot)
    description = snapshot["description"].replace("\\", "\\\\").replace("\n", "\\n")
    lines = [f"# HELP {name} {description}", f"# TYPE {name} {_TYPES[snapshot['kind']]}"]
    for point in snapshot["points"]:
        if snapshot["kind"] == "histogram":
            lines += _histogram(name, snapshot["bounds"], point)
        else:
            lines.append(f"{name}{_labels(point['attributes'])} {_number(point['value'])}")
    return lines


def _histogram(name: str, bounds: list[float], point: Point) -> list[str]:
    attributes = point["attributes"]
    lines: list[str] = []
    total = 0
    for bound, count in zip([*bounds, float("inf")], point["counts"], strict=True):
        total += count
        lines.append(f"{name}_bucket{_labels({**attributes, 'le': _number(bound)})} {total}")
    lines.append(f"{name}_sum{_labels(attributes)} {_number(point['sum'])}")
    lines.append(f"{name}_count{_labels(attributes)} {total}")
    return lines


def _labels(attributes: dict[str, str]) -> str:
    if not attributes:
        return ""
    pairs = (f'{_FORBIDDEN.sub("_", key)}="{_escaped(value)}"' for key, value in attributes.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < _EXACT else repr(float(value))
