"""Prints the comparisons for people and turns them into JSON for programs. Measures and judges nothing."""

import os
import platform
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.figures import Interval
from benchmarks.load import h2load_version
from benchmarks.rounds import Comparison, Side
from benchmarks.targets import Verdict

# Of the last minute, before the first run.
BUSY_LOAD = 0.5
PACKAGES = ("grpcio", "uvloop", "protobuf", "orjson", "jsonschema-rs")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def machine() -> dict[str, str]:
    """What the figures depend on besides the code."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: _installed(package) for package in PACKAGES},
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def busy() -> str | None:
    """A warning when other work shares the machine; None when it is idle."""
    load = os.getloadavg()[0]
    if load < BUSY_LOAD:
        return None
    return f"the machine is busy (load average {load:.2f}): believe the ratios by CPU, and run again when it is idle"


def generator(name: str) -> str:
    """What makes the load, and what that means for the figures."""
    installed = h2load_version()
    if name == "h2load":
        return installed or "h2load"
    why = "h2load was not wanted" if installed else "h2load is missing; Debian has it in nghttp2-client"
    return f"a Python client ({why}): dearer than the servers, so ratios come out nearer to 1"


def _interval(interval: Interval, digits: int, sign: str = "") -> str:
    low, high = (f"{value:{sign}.{digits}f}" for value in (interval.low, interval.high))
    return f"{interval.median:{sign}.{digits}f} (95 % interval {low} to {high})"


def _side(side: Side, unit: str) -> str:
    own, helpers = side.cpu_micros()
    line = f"  {side.name:<22}{side.median(lambda run: run.rate) or 0:>10,.0f} {unit}/s {own:>8.0f} µs CPU"
    line += f" + {helpers:.0f} in other processes" if helpers >= 0.5 else ""
    p50, p99 = side.median(lambda run: run.p50), side.median(lambda run: run.p99)
    return line if p50 is None or p99 is None else f"{line}   p50 {p50:.3f} ms   p99 {p99:.3f} ms"


def text(comparison: Comparison, verdict: Verdict | None) -> str:
    """One comparison as a paragraph."""
    lines = [comparison.title, _side(comparison.bare, comparison.unit), _side(comparison.ours, comparison.unit)]
    lines.append(f"  ratio       {_interval(comparison.ratio(), 3)}")
    lines.append(f"  by CPU      {_interval(comparison.cpu_ratio(), 3)}")
    lines.append(f"  CPU, ours less bare   {_interval(comparison.cpu_added(), 1, '+')} µs")
    difference, p50_ratio = comparison.p50_difference(), comparison.p50_ratio()
    if p50_ratio is not None:
        lines.append(f"  by p50      {_interval(p50_ratio, 3)}")
    if difference is not None:
        lines.append(f"  p50, ours less bare   {_interval(difference, 3, '+')} ms")
    lines += [f"  {note}" for note in comparison.notes]
    if verdict is not None:
        lines.append(f"  target      {verdict.target}: {'reached' if verdict.reached else 'MISSED'}")
    return "\n".join(lines)


def data(comparison: Comparison, verdict: Verdict | None) -> dict[str, object]:
    """One comparison with every run of it."""
    difference, p50_ratio = comparison.p50_difference(), comparison.p50_ratio()
    return {
        **asdict(comparison),
        "ratio": asdict(comparison.ratio()),
        "cpu_ratio": asdict(comparison.cpu_ratio()),
        "cpu_added_micros": asdict(comparison.cpu_added()),
        "p50_ratio": asdict(p50_ratio) if p50_ratio else None,
        "p50_difference_ms": asdict(difference) if difference else None,
        "verdict": asdict(verdict) if verdict else None,
    }
