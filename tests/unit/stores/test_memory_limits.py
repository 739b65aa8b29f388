"""What only the store in process can be shown: any history on a clock that is told, the calendar, what it forgets."""

from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.limits.clock import NOON, Clock
from toolwright_server.limits.model import Check, Kind
from toolwright_server.stores.memory.limits import MemoryLimitStore

DAY_SECONDS = 86_400.0

CHECKS = (
    Check("ten", "{t}:10s", Kind.WINDOW, 3, "user ada", 10.0),
    Check("four", "{t}:4s", Kind.WINDOW, 2, "user ada", 4.0),
    Check("tried", "{t}:6s:shadow", Kind.WINDOW, 2, "user ada", 6.0, shadow=True),
    Check("day", "{t}:day", Kind.DAY, 6, "tenant t"),
    Check("running", "{t}:running", Kind.RUNNING, 3, "tenant t"),
)


@dataclass
class Model:
    """The same in the plainest words: a list of what was let in, counted anew for every question."""

    clock: Clock
    # Token, instant, day, and the keys taken from.
    let_in: list[tuple[str, float, float, list[str]]] = field(default_factory=list[tuple[str, float, float, list[str]]])
    running: set[str] = field(default_factory=set[str])

    def used(self, check: Check) -> int:
        now, today = self.clock(), self.clock.wall() // DAY_SECONDS
        found = [(token, began, day) for token, began, day, keys in self.let_in if check.key in keys]
        match check.kind:
            case Kind.WINDOW:
                return sum(now - began < check.window_seconds for _, began, _ in found)
            case Kind.DAY:
                return sum(day == today for _, _, day in found)
            case _:
                return sum(token in self.running for token, _, _ in found)

    def take(self, checks: list[Check], token: str) -> bool:
        full = [check for check in checks if self.used(check) >= check.limit]
        if any(not check.shadow for check in full):
            return False
        keys = [check.key for check in checks if check not in full]
        self.let_in.append((token, self.clock(), self.clock.wall() // DAY_SECONDS, keys))
        self.running.add(token)
        return True

    def give_back(self, token: str) -> None:
        if token in self.running:
            self.let_in = [each for each in self.let_in if each[0] != token]
            self.running.discard(token)


SUBSETS = st.sets(st.integers(0, len(CHECKS) - 1), min_size=1).map(sorted)
STEPS = st.one_of(
    st.tuples(st.just("take"), SUBSETS),
    # Halves are exact in floating point: model and store cannot disagree by rounding.
    st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 2.0, 3.5, 4.0, 10.0])),
    st.tuples(st.just("overnight"), st.just(0)),
    st.tuples(st.just("give_back"), st.integers(0, 50)),
    st.tuples(st.just("release"), st.integers(0, 50)),
    st.tuples(st.just("limit"), st.tuples(st.integers(0, len(CHECKS) - 1), st.integers(1, 8))),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_it_lets_in_what_the_model_lets_in_and_counts_what_the_model_counts(steps: list[tuple[str, object]]) -> None:
    clock = Clock()
    store, model = MemoryLimitStore(clock, clock.wall), Model(clock)
    checks = list(CHECKS)
    tokens: list[str] = []
    for number, (verb, value) in enumerate(steps):
        match verb, value:
            case "take", list():
                asked = [checks[index] for index in cast("list[int]", value)]
                taking = store.take_now(asked, f"call-{number}")
                assert (taking.refused is None) == model.take(asked, f"call-{number}")
                assert [reading.used for reading in taking.readings] == [model.used(check) for check in asked]
                tokens.append(f"call-{number}")
            case "pass", float():
                clock.advance(value)
            case "overnight", _:
                clock.advance(DAY_SECONDS)
            case "give_back", int() if tokens:
                store.give_back_now(CHECKS, tokens[value % len(tokens)])
                model.give_back(tokens[value % len(tokens)])
            case "release", int() if tokens:
                store.release_now(CHECKS, tokens[value % len(tokens)])
                model.running.discard(tokens[value % len(tokens)])
            case "limit", (int() as index, int() as limit):
                checks[index] = replace(checks[index], limit=limit)
            case _:
                pass
        assert [reading.used for reading in store.read_now(checks)] == [model.used(check) for check in checks]


GAPS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 7.0]), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(GAPS, st.integers(1, 5))
def test_no_window_anywhere_holds_more_than_the_limit(gaps: list[float], limit: int) -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    check = replace(CHECKS[0], limit=limit)
    begun: list[float] = []
    for number, gap in enumerate(gaps):
        clock.advance(gap)
        if store.take_now([check], str(number)).refused is None:
            begun.append(clock.now)
    for start in begun:
        assert sum(start <= other < start + check.window_seconds for other in begun) <= limit


@settings(max_examples=200, deadline=None)
@given(GAPS, st.integers(1, 5), st.integers(1, 5))
def test_the_delay_is_neither_longer_nor_shorter_than_it_must_be(gaps: list[float], first: int, later: int) -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    for number, gap in enumerate(gaps):
        clock.advance(gap)
        store.take_now([replace(CHECKS[0], limit=first)], str(number))
    check = replace(CHECKS[0], limit=later)
    refused = store.take_now([check], "asks").refused
    if refused is None:
        return
    assert 0 < refused.reset_seconds <= check.window_seconds
    clock.advance(refused.reset_seconds - 0.001)
    assert store.take_now([check], "asks too soon").refused is not None
    clock.advance(0.001_001)
    assert store.take_now([check], "asks in time").refused is None


DAY = CHECKS[3]
MONTH = Check("month", "{t}:month", Kind.MONTH, 2, "tenant t")


@pytest.mark.parametrize(
    ("wall", "day_left", "month_left"),
    [
        (NOON, 43_200, 43_200 + 2 * DAY_SECONDS),
        (NOON + 2.5 * DAY_SECONDS - 0.5, 0.5, 0.5),
        # 2028-02-28 00:00, in a leap year, and 2026-12-31 23:00.
        (1_835_308_800.0, DAY_SECONDS, 2 * DAY_SECONDS),
        (1_798_758_000.0, 3_600, 3_600),
    ],
)
def test_days_and_months_end_when_the_calendar_says(wall: float, day_left: float, month_left: float) -> None:
    clock = Clock(wall=wall)
    store = MemoryLimitStore(clock, clock.wall)
    assert [reading.reset_seconds for reading in store.read_now([DAY, MONTH])] == [day_left, month_left]
    for number in range(2):
        assert store.take_now([MONTH], str(number)).refused is None
    refused = store.take_now([MONTH], "too many").refused
    assert refused is not None
    assert refused.reset_seconds == month_left
    clock.advance(month_left)
    assert store.take_now([MONTH], "next month").refused is None


def test_what_was_taken_yesterday_is_not_given_back_today() -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    store.take_now([DAY], "yesterday")
    clock.advance(DAY_SECONDS)
    store.take_now([DAY], "today")
    store.give_back_now([DAY], "yesterday")
    assert store.read_now([DAY])[0].used == 1


def test_a_clock_that_is_set_back_over_midnight_does_not_give_the_day_anew() -> None:
    clock = Clock(wall=NOON + DAY_SECONDS / 2)
    store = MemoryLimitStore(clock, clock.wall)
    for number in range(DAY.limit):
        assert store.take_now([DAY], str(number)).refused is None
    clock.set_wall(NOON + DAY_SECONDS / 2 - 2)
    assert store.take_now([DAY], "before midnight again").refused is not None
    clock.advance(3)
    assert store.take_now([DAY], "after it again").refused is not None


def test_a_clock_that_was_years_ahead_is_believed_when_it_is_right_again() -> None:
    clock = Clock(wall=NOON + 900 * DAY_SECONDS)
    store = MemoryLimitStore(clock, clock.wall)
    for number in range(DAY.limit):
        store.take_now([DAY], str(number))
    clock.set_wall(NOON)
    assert store.take_now([DAY], "today").refused is None
    assert store.read_now([DAY])[0].reset_seconds == 43_200


def test_counters_that_say_nothing_any_more_are_forgotten_while_new_ones_come() -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    for number in range(5_000):
        clock.advance(0.5)
        checks = [replace(check, key=f"{check.key}:{number}") for check in (CHECKS[0], CHECKS[4])]
        store.take_now(checks, str(number))
        store.release_now(checks, str(number))
    # A window of 10 s holds 20 calls; some more were not looked at yet.
    assert len(store) <= 100


def test_a_counter_that_holds_something_is_never_forgotten() -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    held = (CHECKS[0], DAY, CHECKS[4])
    store.take_now(held, "held")
    for number in range(1_000):
        store.take_now([replace(CHECKS[1], key=str(number))], str(number))
    assert [reading.used for reading in store.read_now(held)] == [1, 1, 1]


def test_a_refused_crowd_of_strangers_leaves_no_counters() -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    full = replace(CHECKS[4], limit=1)
    store.take_now([full], "holds it")
    for number in range(1_000):
        assert store.take_now([replace(CHECKS[0], key=str(number)), full], str(number)).refused is not None
    assert len(store) <= 10


def test_readings_are_those_of_their_taking_when_they_are_looked_at_later() -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    first = store.take_now(CHECKS, "first")
    store.take_now(CHECKS, "second")
    assert [reading.used for reading in first.readings] == [1, 1, 1, 1, 1]
    assert first.readings[1:3] == [first.readings[1], first.readings[2]]
    assert first.readings[-1].check is CHECKS[-1]
    assert len(first.readings) == len(CHECKS)


@pytest.mark.parametrize("check", [*CHECKS[:2], *CHECKS[3:]], ids=lambda check: check.rule)
def test_a_limit_of_nothing_lets_nobody_in(check: Check) -> None:
    clock = Clock()
    store = MemoryLimitStore(clock, clock.wall)
    none = replace(check, limit=0)
    for used in range(2):
        refused = store.take_now([none], "asks").refused
        assert refused is not None
        assert refused.used == used
        store.take_now([check], "in")
