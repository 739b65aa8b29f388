"""What a call is told: let in, or refused with the right delay and words."""

import asyncio
from collections.abc import Mapping

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.limits.limiter import Asked, Limiter
from toolwright_server.limits.model import Kind
from toolwright_server.limits.refusal import LimitWarning
from toolwright_server.limits.rulefile import parse

from .house import RULES, House, settled

pytestmark = pytest.mark.asyncio


async def test_the_thirty_first_browser_call_of_a_minute_is_refused_in_words_and_numbers(house: House) -> None:
    for _ in range(30):
        (await house.call()).release()
        await settled()
        house.clock.advance(1.25)
    failure = await house.refused()
    assert failure.reason is Reason.RATE_LIMITED
    assert failure.user_message == "30 browser calls a minute are used up; try again in 23 s"
    assert failure.retry_delay == 22.5
    assert failure.metadata == {
        "rule": "browsing",
        "limit": "30",
        "used": "30",
        "subject": "user ada",
        "reset_seconds": "22.500",
        "outcome": "not_started",
    }
    assert [(each.subject, each.description) for each in failure.quota] == [
        ("user ada", "30 browser calls a minute are used up")
    ]
    assert house.counted("toolwright.limits.refused") == {"browsing": 1}
    assert (await house.call("bob")).token
    house.clock.advance(22.5)
    assert (await house.call()).token


async def test_a_call_that_no_rule_is_about_is_let_in_without_asking_anybody(house: House) -> None:
    house.rulebook.replace(parse("ready_made = false", "limits.toml", None))
    house.elsewhere.open.clear()
    admission = await house.call()
    assert (admission.checks, list(admission.readings), admission.warnings) == ((), [], ())
    admission.release()


async def test_what_is_left_is_in_the_readings(house: House) -> None:
    await house.call()
    readings = {reading.check.rule: reading.used for reading in (await house.call()).readings}
    assert readings == {"browsing": 2, "user-running": 2, "tool-running": 2}


async def test_the_tightest_limit_is_the_one_with_fewest_calls_left(house: House) -> None:
    other = await house.call("bob", "crm.find")
    assert other.tightest is None
    other.release()
    day = '[[rule]]\nname = "daily"\nper = "tenant"\ncount = "day"\nlimit = 4\n'
    tried = '[[rule]]\nname = "tried"\nper = "tenant"\ncount = "day"\nlimit = 3\nshadow = true\n'
    house.rulebook.replace(parse(RULES.replace("limit = 30", "limit = 3") + day + tried, "limits.toml", None))
    found: list[tuple[str, int]] = []
    for user in ("ada", "ada", "bob", "bob"):
        admission = await house.call(user)
        tightest = admission.tightest
        admission.release()
        await settled()
        assert tightest is not None
        found.append((tightest.check.rule, tightest.check.limit - tightest.used))
        house.clock.advance(1)
    assert found == [("browsing", 2), ("browsing", 1), ("daily", 1), ("daily", 0)]


async def test_an_end_is_counted_once_and_giving_back_costs_nothing(house: House) -> None:
    first, second = await house.call(), await house.call()
    first.give_back()
    second.release()
    first.release()
    second.give_back()
    await house.limiter.close()
    assert await house.used() == {"browsing": 1, "user-running": 0, "tool-running": 0}


@pytest.mark.parametrize(("limit", "thresholds"), [(10, {8: 80, 10: 95}), (20, {16: 80, 19: 95}), (1, {1: 95})])
async def test_the_call_that_crosses_a_threshold_is_warned_and_no_other(
    limit: int, thresholds: Mapping[int, int]
) -> None:
    house = House(RULES.replace("limit = 30", f"limit = {limit}"))
    last: LimitWarning | None = None
    for number in range(1, limit + 1):
        admission = await house.call()
        admission.release()
        last = admission.warnings[0] if admission.warnings else last
        found = [(warning.threshold_percent, warning.used, warning.limit) for warning in admission.warnings]
        assert found == ([(thresholds[number], number, limit)] if number in thresholds else [])
    assert last is not None
    assert (last.kind, last.subject) == ("rate", "browser calls of user ada")
    assert last.reset_seconds == (60 if last.used == limit else 0)


async def test_running_calls_and_rules_in_shadow_warn_nobody() -> None:
    house = House(RULES.replace("limit = 30", "limit = 2\nshadow = true"))
    assert [(await house.call()).warnings for _ in range(2)] == [(), ()]


async def test_rules_in_shadow_are_counted_and_said_and_refuse_nobody(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.rulebook.replace(parse(RULES.replace("limit = 30", "limit = 2\nshadow = true"), "limits.toml", None))
    caplog.set_level("INFO")
    over: list[list[str]] = []
    for _ in range(6):
        admission = await house.call()
        over.append([reading.check.rule for reading in admission.over])
        admission.release()
        await settled()
    assert over == [[], [], *[["browsing"]] * 4]
    assert house.counted("toolwright.limits.refused") == {"~browsing": 4}
    said = [record.getMessage() for record in caplog.records if "in shadow" in record.getMessage()]
    assert len(said) == 1
    house.clock.advance(59)
    house.clock.advance(1)
    for _ in range(3):
        (await house.call()).release()
        await settled()
    said = [record.getMessage() for record in caplog.records if "in shadow" in record.getMessage()]
    assert len(said) == 2
    assert "would have refused 4 calls" in said[1]


async def test_quota_shows_every_limit_and_takes_nothing(house: House) -> None:
    first = await house.call()
    (await house.call()).release()
    await settled()
    for _ in range(2):
        readings = await house.limiter.quota("acme", "ada", [("browser.open", "browser"), ("crm.find", "crm")])
        assert [(each.check.rule, each.check.what, each.used, each.check.limit) for each in readings] == [
            ("browsing", "browser calls", 2, 30),
            ("user-running", "calls", 1, 2),
            ("tool-running", "calls of browser.open", 1, 3),
            ("tool-running", "calls of crm.find", 0, 3),
        ]
    first.release()


async def test_a_call_cancelled_while_a_shared_store_is_asked_gives_back_what_it_may_have_taken() -> None:
    house = House(shared=True)
    house.elsewhere.open.clear()
    asking = asyncio.create_task(house.call())
    await settled()
    assert (await house.used())["browsing"] == 1
    asking.cancel()
    await asyncio.wait([asking])
    await house.limiter.close()
    assert await house.used() == {"browsing": 0, "user-running": 0, "tool-running": 0}


async def test_places_in_a_shared_store_are_renewed_while_their_calls_run() -> None:
    house = House(shared=True)
    pauses: asyncio.Queue[float] = asyncio.Queue()
    resume = asyncio.Semaphore(0)

    async def pause(seconds: float) -> None:
        pauses.put_nowait(seconds)
        await resume.acquire()

    limiter = Limiter(
        house.elsewhere, house.rulebook, house.line, house.metrics, clock=house.clock, renew_seconds=7, pause=pause
    )
    asked = Asked("acme", "ada", "browser.open", "browser")
    first = await limiter.admit(asked, "first", 0)
    await limiter.admit(asked, "second", 0)
    first.release()
    limiter.start()
    assert await pauses.get() == 7
    resume.release()
    assert await pauses.get() == 7
    assert house.elsewhere.renewed == [(["user-running", "tool-running"], ["second"])]
    await limiter.close()


async def test_overrides_of_a_tool_take_the_place_of_its_rules(house: House) -> None:
    asked = Asked("acme", "ada", "browser.open", "browser", {Kind.RUNNING: 1})
    await house.limiter.admit(asked, "first", 0)
    with pytest.raises(ToolwrightError) as raised:
        await house.limiter.admit(asked, "second", 0)
    assert raised.value.failure.metadata["rule"] == "tool-settings"
    # It is the same counter under either limit.
    assert [reading.used for reading in (await house.call("bob")).readings] == [1, 1, 2]
