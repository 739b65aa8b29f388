"""What every store of limits holds to. Windows that must pass are short, as some stores see real time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from toolwright_server.limits.model import Check, Kind, Taking

from .counted import Counted

pytestmark = pytest.mark.asyncio

WINDOW = Check("minute", "{acme}:60s:user=ada", Kind.WINDOW, 3, "user ada", 60.0)
SHORT = Check("second", "{acme}:1s:user=ada", Kind.WINDOW, 2, "user ada", 1.0)
DAY = Check("day", "{acme}:day", Kind.DAY, 3, "tenant acme")
MONTH = Check("month", "{acme}:month", Kind.MONTH, 3, "tenant acme")
RUNNING = Check("running", "{acme}:running", Kind.RUNNING, 2, "tenant acme")
ALL = (WINDOW, DAY, MONTH, RUNNING)
# More than a real clock is off between two lines of a test.
SLACK_SECONDS = 0.05

_numbers = count()


def token() -> str:
    return f"call-{next(_numbers)}"


async def taken(counted: Counted, checks: Sequence[Check], times: int = 1) -> list[str]:
    """Tokens of calls that were let in."""
    tokens = [token() for _ in range(times)]
    for each in tokens:
        assert (await counted.store.take(checks, each)).refused is None
    return tokens


async def used(counted: Counted, *checks: Check) -> list[int]:
    return [reading.used for reading in await counted.store.read(checks)]


def refusing(taking: Taking) -> str:
    assert taking.refused is not None
    return taking.refused.check.rule


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.rule)
async def test_as_many_are_let_in_as_the_limit_says_and_not_one_more(counted: Counted, check: Check) -> None:
    await taken(counted, [check], check.limit)
    taking = await counted.store.take([check], token())
    assert refusing(taking) == check.rule
    assert await used(counted, check) == [check.limit]


async def test_of_many_at_once_exactly_as_many_are_let_in(counted: Counted) -> None:
    check = replace(WINDOW, limit=17)
    takings = await asyncio.gather(*(counted.store.take([check, RUNNING], token()) for _ in range(5)))
    takings += await asyncio.gather(*(counted.store.take([check], token()) for _ in range(50)))
    assert sum(taking.refused is None for taking in takings) == 17
    assert await used(counted, check, RUNNING) == [17, 2]


async def test_the_readings_of_a_taking_are_those_after_it_in_the_order_of_the_checks(counted: Counted) -> None:
    await taken(counted, [WINDOW])
    taking = await counted.store.take(ALL, token())
    assert [(reading.check, reading.used) for reading in taking.readings] == [
        (WINDOW, 2), (DAY, 1), (MONTH, 1), (RUNNING, 1),
    ]  # fmt: skip
    assert taking.used is None or list(taking.used) == [2, 1, 1, 1]
    assert taking.over == () or not list(taking.over)


async def test_nothing_is_taken_when_one_refuses(counted: Counted) -> None:
    await taken(counted, [RUNNING], 2)
    taking = await counted.store.take(ALL, token())
    assert refusing(taking) == "running"
    assert [reading.used for reading in taking.readings] == [0, 0, 0, 2]
    assert await used(counted, *ALL) == [0, 0, 0, 2]


async def test_of_several_that_refuse_the_longest_is_named_and_a_place_only_when_nothing_else_does(
    counted: Counted,
) -> None:
    longer = replace(WINDOW, rule="longer", key="{acme}:600s", window_seconds=600.0)
    await taken(counted, [WINDOW, longer], 3)
    await taken(counted, [RUNNING], 2)
    for order in ((RUNNING, WINDOW, longer), (longer, WINDOW, RUNNING), (WINDOW, longer, RUNNING)):
        assert refusing(await counted.store.take(order, token())) == "longer"
    assert refusing(await counted.store.take((RUNNING, WINDOW), token())) == "minute"


async def test_who_waits_as_long_as_told_is_let_in_and_no_sooner_is_promised(counted: Counted) -> None:
    await taken(counted, [SHORT])
    await counted.passes(0.4)
    await taken(counted, [SHORT])
    refused = (await counted.store.take([SHORT], token())).refused
    assert refused is not None
    assert 0 < refused.reset_seconds <= 0.6 + SLACK_SECONDS
    await counted.passes(refused.reset_seconds + 0.001)
    await taken(counted, [SHORT])
    assert (await counted.store.take([SHORT], token())).refused is not None


async def test_a_window_slides_so_that_no_stretch_of_it_holds_more_than_the_limit(counted: Counted) -> None:
    await taken(counted, [SHORT])
    await counted.passes(0.7)
    await taken(counted, [SHORT])
    await counted.passes(0.35)
    await taken(counted, [SHORT])
    # The first has left the window, the second has not.
    assert (await counted.store.take([SHORT], token())).refused is not None


async def test_more_fits_at_once_while_there_is_room_and_a_day_ends_within_a_day(counted: Counted) -> None:
    window, day, month, running = await counted.store.read(ALL)
    assert (window.reset_seconds, running.reset_seconds) == (0, 0)
    assert 0 < day.reset_seconds <= 86_400
    assert day.reset_seconds - SLACK_SECONDS <= month.reset_seconds <= 31 * 86_400


async def test_reading_takes_nothing(counted: Counted) -> None:
    for _ in range(5):
        assert await used(counted, *ALL) == [0, 0, 0, 0]


async def test_released_places_are_free_and_what_was_begun_stays_counted(counted: Counted) -> None:
    first, _ = await taken(counted, ALL, 2)
    assert refusing(await counted.store.take(ALL, token())) == "running"
    await counted.store.release(ALL, first)
    assert await used(counted, *ALL) == [2, 2, 2, 1]
    await taken(counted, ALL)


async def test_giving_back_undoes_all_of_one_taking_and_nothing_of_another(counted: Counted) -> None:
    first, second = await taken(counted, ALL, 2)
    await counted.store.give_back(ALL, first)
    assert await used(counted, *ALL) == [1, 1, 1, 1]
    await counted.store.give_back(ALL, second)
    assert await used(counted, *ALL) == [0, 0, 0, 0]


async def test_nothing_is_given_back_twice_nor_after_its_end_nor_by_who_took_nothing(counted: Counted) -> None:
    first, second = await taken(counted, ALL, 2)
    refused = token()
    assert (await counted.store.take(ALL, refused)).refused is not None
    for _ in range(2):
        await counted.store.give_back(ALL, first)
        await counted.store.release(ALL, second)
    await counted.store.give_back(ALL, second)
    await counted.store.give_back(ALL, refused)
    await counted.store.give_back(ALL, token())
    assert await used(counted, *ALL) == [1, 1, 1, 0]


async def test_giving_back_a_call_of_a_window_ago_takes_nothing_from_later_ones(counted: Counted) -> None:
    (first,) = await taken(counted, [SHORT, RUNNING])
    await counted.passes(1.1)
    await taken(counted, [SHORT])
    await counted.store.give_back([SHORT, RUNNING], first)
    assert await used(counted, SHORT, RUNNING) == [1, 0]


async def test_who_holds_a_place_is_let_in_again_and_takes_nothing_more(counted: Counted) -> None:
    (first,) = await taken(counted, ALL)
    await taken(counted, [RUNNING])
    for _ in range(3):
        again = await counted.store.take(ALL, first)
        assert again.refused is None
        assert [reading.used for reading in again.readings] == [1, 1, 1, 2]
    await counted.store.release(ALL, first)
    assert await used(counted, *ALL) == [1, 1, 1, 1]


async def test_places_that_are_renewed_are_held(counted: Counted) -> None:
    tokens = await taken(counted, ALL, 2)
    await counted.store.renew([RUNNING], tokens)
    assert await used(counted, *ALL) == [2, 2, 2, 2]


async def test_a_rule_in_shadow_refuses_nobody_and_is_reported(counted: Counted) -> None:
    shadow = replace(WINDOW, rule="tried", key="{acme}:shadow", limit=2, shadow=True)
    await taken(counted, [shadow, DAY], 2)
    taking = await counted.store.take([shadow, DAY], token())
    assert taking.refused is None
    assert [reading.check.rule for reading in taking.over] == ["tried"]
    assert await used(counted, DAY) == [3]
    # What holds refuses as ever.
    assert refusing(await counted.store.take([shadow, DAY], token())) == "day"


async def test_a_rule_in_shadow_counts_what_it_would_have_let_through(counted: Counted) -> None:
    shadow = replace(RUNNING, rule="tried", key="{acme}:running:shadow", limit=1, shadow=True)
    first, second = await taken(counted, [shadow, RUNNING], 2)
    assert await used(counted, shadow, RUNNING) == [1, 2]
    await counted.store.give_back([shadow, RUNNING], second)
    assert await used(counted, shadow, RUNNING) == [1, 1]
    await counted.store.release([shadow, RUNNING], first)
    assert await used(counted, shadow, RUNNING) == [0, 0]


@pytest.mark.parametrize("check", [replace(each, limit=10) for each in ALL], ids=lambda check: check.rule)
async def test_a_limit_that_changes_keeps_what_was_counted(counted: Counted, check: Check) -> None:
    lower, higher = replace(check, limit=5), replace(check, limit=20)
    await taken(counted, [check], 8)
    assert (await counted.store.take([lower], token())).refused is not None
    assert await used(counted, lower) == [8]
    await taken(counted, [check], 2)
    await taken(counted, [higher], 10)
    assert (await counted.store.take([higher], token())).refused is not None


async def test_under_a_lowered_limit_one_more_fits_when_enough_have_left_the_window(counted: Counted) -> None:
    higher, lower = replace(SHORT, limit=3), replace(SHORT, limit=1)
    await taken(counted, [higher])
    await counted.passes(0.3)
    await taken(counted, [higher], 2)
    refused = (await counted.store.take([lower], token())).refused
    assert refused is not None
    assert 0.3 < refused.reset_seconds <= 1.0 + SLACK_SECONDS
    await counted.passes(refused.reset_seconds + 0.001)
    await taken(counted, [lower])


async def test_counters_know_nothing_of_each_other(counted: Counted) -> None:
    await taken(counted, [WINDOW], 3)
    other = replace(WINDOW, key="{acme}:60s:user=bob")
    await taken(counted, [other], 3)
    assert await used(counted, WINDOW, other, DAY) == [3, 3, 0]


async def test_names_of_any_kind_are_keys(counted: Counted) -> None:
    odd = replace(WINDOW, key="{%C3%A4}:60s:user=%20%3A:" + "x" * 500)
    await taken(counted, [odd], 3)
    assert await used(counted, odd) == [3]
