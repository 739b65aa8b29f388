"""Compares two servers in interleaved rounds, A B, B A, A B: what drifts on the machine hits both alike.

Only one of the two is under load at any moment.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import tape
from benchmarks.contenders import Contender, Echoing, WrongAnswerError
from benchmarks.figures import Interval, bootstrap, percentile
from benchmarks.load import Ask, Generate

CALIBRATION_CALLS = {1: 200, 64: 1500}
COUNT_SECONDS = 10.0
STREAMS_AT_A_TIME = 8
STREAM_STEPS = 1000
# What the bare server sends when it is compared with itself.
TYPICAL_BYTES = 100


@dataclass(frozen=True)
class Run:
    """One server, once under load. CPU in seconds, latencies in milliseconds; `units` are calls or events."""

    units: int
    seconds: float
    cpu: float
    helpers_cpu: float
    p50: float | None = None
    p99: float | None = None

    @property
    def rate(self) -> float:
        """Calls or events per second."""
        return self.units / self.seconds


@dataclass(frozen=True)
class Side:
    """All runs of one server in a comparison."""

    name: str
    runs: list[Run] = field(default_factory=list[Run])

    def median(self, of: Callable[[Run], float | None]) -> float | None:
        """The median over the runs; None when they have no such figure."""
        values = [value for run in self.runs if (value := of(run)) is not None]
        return statistics.median(values) if values else None

    def cpu_micros(self) -> tuple[float, float]:
        """CPU microseconds per call or event: of the server, and of its other processes."""
        units = sum(run.units for run in self.runs)
        return sum(run.cpu for run in self.runs) / units * 1e6, sum(run.helpers_cpu for run in self.runs) / units * 1e6


@dataclass(frozen=True)
class Comparison:
    """Two servers over all rounds; the figures of ours go against those of the bare one of the same round."""

    title: str
    unit: str
    bare: Side
    ours: Side
    notes: list[str] = field(default_factory=list[str])

    def ratio(self) -> Interval:
        """Ours over bare: calls or events per second."""
        return bootstrap([ours.rate / bare.rate for bare, ours in zip(self.bare.runs, self.ours.runs, strict=True)])

    def cpu_ratio(self) -> Interval:
        """Bare over ours: CPU of the server process per call or event. It hardly minds what else the machine does."""
        pairs = zip(self.bare.runs, self.ours.runs, strict=True)
        return bootstrap([(bare.cpu / bare.units) / (ours.cpu / ours.units) for bare, ours in pairs if ours.cpu])

    def cpu_added(self) -> Interval:
        """Ours less bare: CPU microseconds of the server process per call or event."""
        pairs = zip(self.bare.runs, self.ours.runs, strict=True)
        return bootstrap([(ours.cpu / ours.units - bare.cpu / bare.units) * 1e6 for bare, ours in pairs])

    def p50_ratio(self) -> Interval | None:
        """Bare over ours: the median latency. None where there are no latencies."""
        pairs = zip(self.bare.runs, self.ours.runs, strict=True)
        found = [bare.p50 / ours.p50 for bare, ours in pairs if ours.p50 and bare.p50]
        return bootstrap(found) if found else None

    def p50_difference(self) -> Interval | None:
        """Ours less bare: the median latency, in milliseconds. None where there are no latencies."""
        pairs = zip(self.bare.runs, self.ours.runs, strict=True)
        found = [ours.p50 - bare.p50 for bare, ours in pairs if ours.p50 is not None and bare.p50 is not None]
        return bootstrap(found) if found else None


def interleaved(
    title: str, unit: str, rounds: int, bare: tuple[str, Callable[[], Run]], ours: tuple[str, Callable[[], Run]]
) -> Comparison:
    """Runs both `rounds` times, in an order that alternates, and says on the way how it goes."""
    comparison = Comparison(title, unit, Side(bare[0]), Side(ours[0]))
    sides = [(comparison.bare, bare[1]), (comparison.ours, ours[1])]
    for number in range(rounds):
        for side, run in sides if number % 2 == 0 else reversed(sides):
            side.runs.append(run())
        latest = [side.runs[-1].rate for side, _ in sides]
        ratio = latest[1] / latest[0]
        print(
            f"  {title} {number + 1}/{rounds}: {latest[0]:,.0f} and {latest[1]:,.0f} {unit}/s, {ratio:.3f}", flush=True
        )
    return comparison


def _await_count(contender: Echoing, path: str, wanted: int) -> None:
    """Waits until the server has counted so many calls: it counts a call shortly after the caller has its answer."""
    end = time.monotonic() + COUNT_SECONDS
    while (seen := contender.calls_ok(path)) != wanted:
        if seen > wanted or time.monotonic() > end:
            raise WrongAnswerError(f"{contender.name} was called {wanted} times and counts {seen} answers with OK")
        time.sleep(0.02)


def echo_run(contender: Echoing, size: int, callers: int, calls: int, generate: Generate) -> Run:
    """Loads the echo with `calls` calls and checks samples before and after, all bytes and the server's own count.

    Raises:
        WrongAnswerError: something was not answered as it must be.
    """
    path = contender.echo_path
    bounds = contender.check_echo(size)
    counted = contender.calls_ok(path)
    before = contender.process.cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        ask = Ask(contender.address, path, contender.echo_request(size), callers, contender.headers, contender.wire)
        seen = generate(ask, calls, Path(folder))
    after = contender.process.cpu_seconds()
    _await_count(contender, path, counted + calls)
    bounds = bounds.widened(contender.check_echo(size))
    if not bounds.hold(calls, seen.response_bytes, contender.wire.prefix):
        raise WrongAnswerError(
            f"{contender.name} answered {calls} calls with {seen.response_bytes} bytes; "
            f"one verified answer has {bounds.low} to {bounds.high} and a prefix of {contender.wire.prefix}"
        )
    p50, p99 = percentile(seen.latencies, 50), percentile(seen.latencies, 99)
    return Run(calls, seen.seconds, after[0] - before[0], after[1] - before[1], p50, p99)


def echo_runner(contender: Echoing, size: int, callers: int, seconds: float, generate: Generate) -> Callable[[], Run]:
    """A run of about `seconds`: how many calls that are is found out by a first run that does not count."""
    warm = echo_run(contender, size, callers, CALIBRATION_CALLS[callers], generate)
    calls = max(callers, int(echo_run(contender, size, callers, warm.units, generate).rate * seconds))
    return lambda: echo_run(contender, size, callers, calls, generate)


def stream_run(contender: Contender, steps: int, message_size: int, streams: int) -> Run:
    """Reads streams and checks every event of each.

    Raises:
        WrongAnswerError: an event was missing, or the server counts other calls than were made.
    """
    path, total = contender.stream_path, STREAMS_AT_A_TIME * streams
    counted = contender.calls_ok(path)
    before = contender.process.cpu_seconds()
    request = contender.stream_request(steps, message_size)
    recording = tape.record(Ask(contender.address, path, request, STREAMS_AT_A_TIME), streams)
    after = contender.process.cpu_seconds()
    _await_count(contender, path, counted + total)
    events = 0
    for stream in recording.streams:
        found = tape.messages(stream)
        contender.check_stream(found, steps)
        events += len(found)
    return Run(events, recording.seconds, after[0] - before[0], after[1] - before[1])


def stream_runner(contender: Contender, steps: int, message_size: int, seconds: float) -> Callable[[], Run]:
    """A run of about `seconds`: how many streams that are is found out by a first run that does not count."""
    warm = stream_run(contender, steps, message_size, 1)
    streams = max(1, round(seconds / warm.seconds))
    return lambda: stream_run(contender, steps, message_size, streams)


def typical_stream(contender: Contender) -> tuple[int, int]:
    """How many messages one stream of STREAM_STEPS has, and the median length: the other server sends the same."""
    request = contender.stream_request(STREAM_STEPS, TYPICAL_BYTES)
    stream = tape.record(Ask(contender.address, contender.stream_path, request, 1), 1).streams[0]
    found = tape.messages(stream)
    contender.check_stream(found, STREAM_STEPS)
    return len(found), int(statistics.median(len(message) for message in found))
