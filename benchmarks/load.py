"""Loads one unary method with the same frame over and over, and says how fast and how many bytes came back.

h2load does it where it is installed; a Python process (generator.py) where it is not. h2load reads no gRPC status:
whoever calls this compares the bytes and the server's own counts.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.processes import ROOT

DEADLINE = "30S"


@dataclass(frozen=True)
class Wire:
    """How calls go over the wire. `shapes`: by the number of callers, connections and calls at a time on each."""

    headers: Mapping[str, str]
    shapes: Mapping[int, tuple[int, int]]
    # Bytes before each message and each answer.
    prefix: int = 0
    # For h2load, which speaks HTTP/2 unless it is told otherwise.
    flags: tuple[str, ...] = ()


# Agents share a channel, but not all of them one.
GRPC = Wire(
    {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": DEADLINE}, {1: (1, 1), 64: (8, 8)}, prefix=5
)
# Over HTTP/1.1 a connection serves one call at a time.
HTTP = Wire({"content-type": "application/json"}, {1: (1, 1), 64: (64, 1)}, flags=("--h1",))


@dataclass(frozen=True)
class Load:
    """What one run of the generator saw. `latencies` are milliseconds in ascending order."""

    calls: int
    seconds: float
    response_bytes: int
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds


@dataclass(frozen=True)
class Ask:
    """What is asked of which server, and by how many callers at a time."""

    address: str
    path: str
    message: bytes
    callers: int
    # Beside those that every call on the wire has.
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    wire: Wire = GRPC


class Generate(Protocol):
    """Makes exactly `calls` calls; the folder is for its files."""

    def __call__(self, ask: Ask, calls: int, folder: Path) -> Load: ...


def frame(message: bytes) -> bytes:
    """The gRPC frame of one uncompressed message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def h2load_version() -> str | None:
    """The version of h2load, None where it is not installed."""
    if shutil.which("h2load") is None:
        return None
    done = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def with_h2load(ask: Ask, calls: int, folder: Path) -> Load:
    """Runs h2load for exactly `calls` calls.

    Raises:
        RuntimeError: h2load failed, or saw a call fail.
    """
    body, log = folder / "frame.bin", folder / "h2load.tsv"
    body.write_bytes(frame(ask.message) if ask.wire.prefix else ask.message)
    log.unlink(missing_ok=True)
    connections, streams = ask.wire.shapes[ask.callers]
    command = [
        "h2load",
        *ask.wire.flags,
        f"-n{calls}",
        f"-c{connections}",
        f"-m{streams}",
        f"-d{body}",
        f"--log-file={log}",
    ]
    for name, value in {**ask.wire.headers, **ask.headers}.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(
        [*command, f"http://{ask.address}{ask.path}"], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode != 0:
        raise RuntimeError(f"h2load ended with {done.returncode}: {done.stderr[-1000:] or done.stdout[-1000:]}")
    rows = [line.split("\t") for line in log.read_text(encoding="ascii").splitlines()]
    return parse_h2load(done.stdout, calls, rows)


def parse_h2load(output: str, calls: int, rows: list[list[str]]) -> Load:
    """Reads h2load's summary and its log (start in µs, HTTP status, µs until the end of the response)."""
    finished = re.search(r"^finished in ", output, re.MULTILINE)
    requests = re.search(
        r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output, re.MULTILINE
    )
    traffic = re.search(r"^traffic: .*\((\d+)\) data", output, re.MULTILINE)
    if not (finished and requests and traffic):
        raise RuntimeError(f"h2load printed something unknown: {output[-1000:]}")
    succeeded, *bad = (int(number) for number in requests.groups())
    if succeeded != calls or any(bad) or len(rows) != calls:
        raise RuntimeError(f"h2load was to make {calls} calls: {requests.group(0)}, {len(rows)} rows in its log")
    starts = [int(row[0]) for row in rows]
    ends = [int(row[0]) + int(row[2]) for row in rows]
    seconds = (max(ends) - min(starts)) / 1e6
    return Load(calls, seconds, int(traffic.group(1)), sorted(int(row[2]) / 1000 for row in rows))


def with_python(ask: Ask, calls: int, folder: Path) -> Load:
    """The same with a Python process: dearer than the servers it loads, so that ratios come out nearer to 1.

    Raises:
        RuntimeError: it failed, or is to speak something else than gRPC.
    """
    if ask.wire is not GRPC:
        raise RuntimeError("the Python generator speaks gRPC alone; install h2load (Debian: nghttp2-client)")
    body = folder / "frame.bin"
    body.write_bytes(ask.message)
    connections, streams = ask.wire.shapes[ask.callers]
    numbers = [str(number) for number in (connections, streams, calls)]
    command = [sys.executable, "-m", "benchmarks.generator", ask.address, ask.path, str(body), *numbers]
    done = subprocess.run(
        [*command, json.dumps(dict(ask.headers))],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=ROOT,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the Python generator ended with {done.returncode}: {done.stderr[-1000:]}")
    seen = json.loads(done.stdout)
    return Load(calls, seen["seconds"], seen["response_bytes"], sorted(seen["latencies"]))
