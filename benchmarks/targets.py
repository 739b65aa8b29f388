"""The targets of this project for each comparison, and whether a figure reaches them. Measures nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.rounds import Comparison
from benchmarks.traced import Traced


@dataclass(frozen=True)
class Verdict:
    """One target: in words, the figure seen, and whether it is reached. None: nothing to judge by."""

    target: str
    seen: float | None
    reached: bool


def at_least(ratio: float) -> Callable[[Comparison], Verdict]:
    """Ours reaches this share of the bare rate, by the median of the rounds."""
    return _of_the_rate(f"at least {ratio:.2f} of bare", ratio)


def ahead_by(ratio: float) -> Callable[[Comparison], Verdict]:
    """Ours is so many times as fast as what it is compared with, by the median of the rounds."""
    return _of_the_rate(f"at least {ratio:g} times as many", ratio)


def _of_the_rate(target: str, ratio: float) -> Callable[[Comparison], Verdict]:
    def judge(comparison: Comparison) -> Verdict:
        seen = comparison.ratio().median
        return Verdict(target, seen, seen >= ratio)

    return judge


def p50_within(milliseconds: float) -> Callable[[Comparison], Verdict]:
    """Our median latency is at most this much above the bare one, by the median of the rounds."""

    def judge(comparison: Comparison) -> Verdict:
        found = comparison.p50_difference()
        seen = found.median if found else None
        return Verdict(f"p50 at most {milliseconds:.2f} ms above bare", seen, seen is not None and seen <= milliseconds)

    return judge


def p50_ratio_of(ratio: float) -> Callable[[Comparison], Verdict]:
    """The bare median latency is at least this share of ours, by the median of the rounds."""

    def judge(comparison: Comparison) -> Verdict:
        found = comparison.p50_ratio()
        seen = found.median if found else None
        return Verdict(f"bare p50 at least {ratio:.2f} of ours", seen, seen is not None and seen >= ratio)

    return judge


def cpu_added_within(micros: float) -> Callable[[Comparison], Verdict]:
    """Ours takes at most so much more CPU per call, by the median of the rounds."""

    def judge(comparison: Comparison) -> Verdict:
        seen = comparison.cpu_added().median
        return Verdict(f"at most {micros:.0f} µs of CPU more per call", seen, seen <= micros)

    return judge


def all_spans_and(spans: Traced, judge: Callable[[Comparison], Verdict]) -> Callable[[Comparison], Verdict]:
    """Besides the other target, every span must have reached the sink."""

    def judge_both(comparison: Comparison) -> Verdict:
        verdict = judge(comparison)
        return Verdict(f"{verdict.target}, every span exported", verdict.seen, verdict.reached and spans.complete)

    return judge_both
