"""Compares what callers of two servers were told with what their rules say of a store that is there or not.

Each thing that is wrong is one line of text; a test asserts that there are none.
"""

import json
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil

from toolwright_server.limits.model import Fail

from .deadlines import percentile
from .sharing import DEADLINE_SECONDS, LONG, PLACES, RATE, Pair, Told

# Nothing is waited for but the store, and a place to come free: an answer that takes longer has hung.
HANG_SECONDS = 3.0
# The instants that callers see are a little later than those that were counted.
BLUR = 0.1
REASONS = {"rate": "RATE_LIMITED", "places": "CONCURRENCY_LIMITED"}
ANSWERS = {"", "STORE_UNAVAILABLE", *REASONS.values()}


def wrong(pair: Pair, *, remembers: bool) -> list[str]:
    """What must not be. `remembers`: the store lost nothing while it was absent, so that closed rules are exact."""
    found = [*_hung(pair)]
    for number in range(len(pair.servers)):
        for gone, back in pair.absences(number):
            if back == float("inf"):
                found.append(f"server {number} never found the store again")
            for fail in Fail:
                told = [
                    each for each in pair.told if each.server == number and gone + BLUR < each.sent <= each.heard < back
                ]
                found += _unlike(fail, number, gone, told)
    if remembers:
        found += _over("both servers", _of(pair.told, f"{Fail.CLOSED}-"), RATE, PLACES)
    return found


def _hung(pair: Pair) -> Iterator[str]:
    for each in pair.told:
        if each.reason not in ANSWERS or (each.code != "OK" and not each.reason):
            yield f"no answer that a limit gives: {each}"
        if each.took > HANG_SECONDS:
            yield f"it hung: {each}"


def _unlike(fail: Fail, number: int, gone: float, told: Sequence[Told]) -> Iterator[str]:
    """What is not as the rule says while one server cannot ask."""
    for each in _of(told, f"{fail}-"):
        is_right = {
            Fail.OPEN: each.code == "OK",
            Fail.CLOSED: each.reason == "STORE_UNAVAILABLE" and each.delay is not None and 1 <= each.delay <= 2,
            Fail.LOCAL: each.reason in ("", REASONS[each.user.rpartition("-")[2]]),
        }[fail]
        if not is_right:
            yield f"with fail = {fail}: {each}"
    if fail is Fail.LOCAL:
        # What the store had let in before runs on, and is not known here.
        own = [each for each in _of(told, f"{fail}-") if each.sent > gone + 2 * LONG]
        yield from _over(f"server {number} alone", own, RATE // 2, PLACES // 2)


def _over(who: str, told: Sequence[Told], rate: int, places: int) -> Iterator[str]:
    """Windows with more calls than the limit, and moments with more places."""
    begun = sorted(each.ran[0] for each in _of(told, "-rate") if each.code == "OK")
    for first, instant in enumerate(begun):
        count = bisect_left(begun, instant + 1 - BLUR) - first
        if count > rate:
            yield f"{who}: {count} calls began within {1 - BLUR} s of {instant}, {rate} may"
    spans = [each.ran for each in _of(told, "-places") if each.code == "OK"]
    # Where one ends and the next begins in the same moment, the end comes first.
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running = 0
    for at, change in changes:
        running += change
        if running > places:
            yield f"{who}: {running} calls run at {at}, {places} may"


def _of(told: Sequence[Told], part: str) -> list[Told]:
    return [each for each in told if part in each.user]


def figures(title: str, pair: Pair) -> dict[str, Any]:
    """What was seen, printed and returned. Times in milliseconds, of calls that wait for no place."""
    absences = [pair.absences(number) for number in range(len(pair.servers))]

    def absent(each: Told) -> bool:
        return any(gone < each.sent <= each.heard < back for gone, back in absences[each.server])

    def unnoticed(each: Told) -> bool:
        return not absent(each) and any(each.heard - at >= 0 and each.sent - at < 0.1 for at in pair.faults)

    phases: dict[str, Callable[[Told], bool]] = {
        "shared": lambda each: not absent(each) and not unnoticed(each),
        "unnoticed": unnoticed,
        "absent": absent,
    }
    seen: dict[str, Any] = {
        "series": title,
        "faults": len(pair.faults),
        "absences": [len(each) for each in absences],
        "absent_seconds": [round(sum(back - gone for gone, back in each), 1) for each in absences],
        "calls": len(pair.told),
        "longest_ms": round(1_000 * max(each.took for each in pair.told)),
        "deadline_ms": round(1_000 * DEADLINE_SECONDS),
        "load_average": [round(each, 1) for each in psutil.getloadavg()],
    }
    for name, holds in phases.items():
        told = [each for each in pair.told if holds(each)]
        # Without the time that the tool itself took.
        took = [1_000 * (each.took - (each.ran[1] - each.ran[0])) for each in _of(told, "-rate")]
        seen[name] = {
            "answer_ms": {f"p{part * 100:g}": round(percentile(took, part), 1) for part in (0.5, 0.99, 1.0) if took},
            "answers": {fail: dict(Tally(each.reason or "OK" for each in _of(told, f"{fail}-"))) for fail in Fail},
        }
    print(json.dumps(seen), flush=True)  # noqa: T201 (the long run's product is its figures)
    return seen


def assert_kept_its_word(servers: Pair, seen: dict[str, Any]) -> None:
    """What rules let in while the store was away, and what the servers' metrics say of it."""
    answers = seen["absent"]["answers"]
    assert set(answers[Fail.OPEN]) == {"OK"}
    assert set(answers[Fail.CLOSED]) == {"STORE_UNAVAILABLE"}
    assert {"OK", "RATE_LIMITED", "CONCURRENCY_LIMITED"} >= set(answers[Fail.LOCAL]) >= {"OK", "RATE_LIMITED"}
    assert answers[Fail.OPEN]["OK"] > answers[Fail.LOCAL]["OK"]
    assert "RATE_LIMITED" in seen["shared"]["answers"][Fail.OPEN]
    for server in servers.servers:
        shown = server.http("/metrics")[1]
        assert all(f'toolwright_limits_store_missed_total{{fail="{fail}"}}' in shown for fail in Fail)
