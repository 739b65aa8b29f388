"""Which comparisons are made, between which servers and with which targets. Prints no result."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import rounds
from benchmarks.contenders import Contender, Echoing, Toolwright
from benchmarks.load import Generate
from benchmarks.rival import fastmcp
from benchmarks.rounds import Comparison
from benchmarks.servers import (
    API_KEYS,
    IN_MEMORY,
    LIMITED,
    ONE_PERCENT,
    bare_server,
    every_call_to,
    span_sink,
    toolwright,
)
from benchmarks.stores import shared_counters, shared_stores
from benchmarks.targets import Verdict, ahead_by, all_spans_and, at_least, cpu_added_within, p50_ratio_of, p50_within
from benchmarks.traced import Traced

Outcome = tuple[Comparison, Verdict | None]
NAMES = ("echo", "lone", "traced", "stream", "record", "limits", "processes", "whole", "rival")


# Tools of echo_tools.py.
ACTING = "benchmarks.write"
WHOLE = "benchmarks.whole"


@dataclass(frozen=True)
class Plan:
    """How often, how long, with which generator, which of NAMES, and the interpreter of FastMCP's environment."""

    rounds: int
    seconds: float
    generate: Generate
    names: tuple[str, ...] = NAMES
    rival_python: str = ""

    def against(self, bare: Contender, ours: Contender) -> Iterator[Outcome]:
        """The comparisons that need no sink."""
        if "echo" in self.names:
            yield self._judged(self.echo("echo, 200 B, 64 callers", bare, ours, 200, 64), at_least(0.88))
            yield self.echo("echo, 2 KB, 64 callers", bare, ours, 2000, 64), None
        if "lone" in self.names:
            yield self._judged(self.echo("echo, 200 B, 1 caller", bare, ours, 200, 1), p50_within(0.2))
            yield self.echo("echo, 2 KB, 1 caller", bare, ours, 2000, 1), None
        if "stream" in self.names:
            yield self._judged(self.stream(bare, ours), at_least(0.8))

    def servers(self) -> Iterator[Outcome]:
        """Bare against ours."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bare = stack.enter_context(bare_server(folder))
            if set(self.names) - {"traced", "record", "limits", "processes"}:
                with toolwright(folder, "toolwright, 1 % traced", ONE_PERCENT | IN_MEMORY) as ours:
                    yield from self.against(bare, ours)
            if "traced" in self.names:
                sink = stack.enter_context(span_sink(folder))
                ours = stack.enter_context(
                    toolwright(folder, "toolwright, all traced", every_call_to(sink.address) | IN_MEMORY)
                )
                yield self.traced(bare, ours, Traced(sink))
            if "record" in self.names:
                with toolwright(folder, "toolwright, keys, SQLite", ONE_PERCENT | API_KEYS) as ours:
                    yield from self.recorded(bare, ours)
                with (
                    toolwright(folder, "toolwright, in memory", ONE_PERCENT | IN_MEMORY) as lean,
                    toolwright(folder, "toolwright, SQLite", ONE_PERCENT) as ours,
                ):
                    yield from self.record_alone(lean, ours)
            if "limits" in self.names:
                yield from self.limited(folder, bare)
            if "processes" in self.names:
                yield self.processes(folder)
            if {"whole", "rival"} & set(self.names):
                yield from self.whole(folder, bare)

    def processes(self, folder: Path) -> Outcome:
        """One process against two behind one port, on the stores that several need: what a second core gives."""
        with shared_stores() as stores:
            chosen = ONE_PERCENT | stores
            with (
                toolwright(folder, "one process", chosen) as one,
                toolwright(folder, "two processes", chosen | {"TOOLWRIGHT_WORKERS": "2"}) as two,
            ):
                comparison = self.echo("READ_ONLY, 200 B, 64 callers, one process and two", one, two, 200, 64)
        comparison.notes.append("the load, PostgreSQL and Valkey share the cores; 8 connections, spread by the kernel")
        return comparison, None

    def whole(self, folder: Path, bare: Contender) -> Iterator[Outcome]:
        """Everything that a call may pass on its way, against the bare echo and against another server of tools."""
        with toolwright(folder, "toolwright, all of it", ONE_PERCENT | API_KEYS | LIMITED) as server:
            ours = replace(server, tool=WHOLE)
            title = "READ_ONLY, 200 B, 64 callers, keys, SQLite, limits, circuit, retries, fallback"
            if "whole" in self.names:
                yield self._judged(self.echo(title, bare, ours, 200, 64), at_least(0.75))
            if "rival" in self.names:
                with fastmcp(folder, self.rival_python) as rival:
                    yield self._judged(self.echo(f"the same, {rival.name}", rival, ours, 200, 64), ahead_by(5))

    def recorded(self, bare: Contender, ours: Toolwright) -> Iterator[Outcome]:
        """The whole with identity and record: tools that read, and tools that act, with a commit before and after."""
        acting = replace(ours, tool=ACTING)
        yield self._judged(self.echo("READ_ONLY, 200 B, 64 callers", bare, ours, 200, 64), at_least(0.82))
        yield self._judged(self.echo("SIDE_EFFECT, 200 B, 64 callers", bare, acting, 200, 64), at_least(0.70))
        yield self._judged(self.echo("READ_ONLY, 200 B, 1 caller", bare, ours, 200, 1), p50_ratio_of(0.65))
        yield self.echo("SIDE_EFFECT, 200 B, 1 caller", bare, acting, 200, 1), None

    def limited(self, folder: Path, bare: Contender) -> Iterator[Outcome]:
        """All so far, with four limits for each call: counted in process, in Valkey, and what counting adds alone."""
        everything = ONE_PERCENT | API_KEYS | LIMITED
        with toolwright(folder, "toolwright, limits in process", everything) as ours:
            title = "READ_ONLY, 200 B, 64 callers, limits in process"
            yield self._judged(self.echo(title, bare, ours, 200, 64), at_least(0.80))
        with (
            shared_counters() as shared,
            toolwright(folder, "toolwright, limits in Valkey", everything | shared) as ours,
        ):
            title = "READ_ONLY, 200 B, 64 callers, limits in Valkey"
            yield self._judged(self.echo(title, bare, ours, 200, 64), at_least(0.65))
        with (
            toolwright(folder, "toolwright, without limits", ONE_PERCENT | IN_MEMORY) as lean,
            toolwright(folder, "toolwright, with limits", ONE_PERCENT | IN_MEMORY | LIMITED) as ours,
        ):
            title = "limits alone, READ_ONLY, 200 B, 64 callers"
            yield self._judged(self.echo(title, lean, ours, 200, 64), cpu_added_within(15))

    def record_alone(self, lean: Toolwright, ours: Toolwright) -> Iterator[Outcome]:
        """The same server without and with a record on disk."""
        title = "record alone, READ_ONLY, 200 B, 64 callers"
        yield self._judged(self.echo(title, lean, ours, 200, 64), cpu_added_within(30))
        lean, ours = (replace(side, tool=ACTING) for side in (lean, ours))
        title = "record alone, SIDE_EFFECT, 200 B, 64 callers"
        yield self._judged(self.echo(title, lean, ours, 200, 64), cpu_added_within(60))

    def self_check(self) -> Iterator[Outcome]:
        """Bare against bare: every ratio must be about 1."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            servers = [stack.enter_context(bare_server(folder, name)) for name in ("bare", "bare again")]
            for comparison, _ in self.against(*servers):
                yield comparison, None

    def echo(self, title: str, bare: Echoing, ours: Echoing, size: int, callers: int) -> Comparison:
        """Compares the echo of arguments of `size` bytes."""
        runs = [rounds.echo_runner(side, size, callers, self.seconds, self.generate) for side in (bare, ours)]
        return rounds.interleaved(title, "calls", self.rounds, (bare.name, runs[0]), (ours.name, runs[1]))

    def traced(self, bare: Contender, ours: Contender, spans: Traced) -> Outcome:
        """Compares the echo when each call is traced, and follows the spans to the sink."""
        runs = [rounds.echo_runner(side, 200, 64, self.seconds, self.generate) for side in (bare, ours)]
        spans.settle()
        title = "echo, 200 B, 64 callers, every call traced and exported"
        pair = (bare.name, runs[0]), (ours.name, spans.following(runs[1]))
        comparison = rounds.interleaved(title, "calls", self.rounds, *pair)
        comparison.notes.append(spans.note())
        return comparison, all_spans_and(spans, at_least(0.55))(comparison)

    def stream(self, bare: Contender, ours: Contender) -> Comparison:
        """Compares streams of as many messages, of the length that most of ours have."""
        count, length = rounds.typical_stream(ours)
        runs = [
            rounds.stream_runner(side, steps, length, self.seconds)
            for side, steps in ((bare, count), (ours, rounds.STREAM_STEPS))
        ]
        title = f"stream, {count} events of {length} B, {rounds.STREAMS_AT_A_TIME} at a time"
        return rounds.interleaved(title, "events", self.rounds, (bare.name, runs[0]), (ours.name, runs[1]))

    @staticmethod
    def _judged(comparison: Comparison, judge: Callable[[Comparison], Verdict]) -> Outcome:
        return comparison, judge(comparison)
