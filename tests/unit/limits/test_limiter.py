"""What a call is told: let in, kept waiting, or refused with the right delay and words."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tests.unit.limits.clock import Clock
from tests.unit.limits.test_line import settled
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.limits.limiter import Admission, Asked, Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.model import Check, Kind, Reading, Taking
from toolwright_server.limits.refusal import LimitWarning
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rulefile import parse, ready_made
from toolwright_server.limits.store import LimitStore
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.telemetry import Metrics

pytestmark = pytest.mark.asyncio

LONG = 30.0

RULES = """
ready_made = false
[[rule]]
name = "browsing"
per = "user+category"
category = "browser"
window_seconds = 60
limit = 30
[[rule]]
name = "user-running"
per = "user"
count = "running"
limit = 2
[[rule]]
name = "tool-running"
per = "tenant+tool"
count = "running"
limit = 3
"""


class Elsewhere:
    """A LimitStore that has to be asked: the one in process, behind a suspension and behind `open`."""

    def __init__(self, inside: MemoryLimitStore) -> None:
        self._inside = inside
        self.open = asyncio.Event()
        self.open.set()
        self.renewed: list[tuple[Sequence[str], Sequence[str]]] = []

    async def take(self, checks: Sequence[Check], token: str) -> Taking:
        taking = self._inside.take_now(checks, token)
        await self.open.wait()
        await asyncio.sleep(0)
        return taking

    async def give_back(self, checks: Sequence[Check], token: str) -> None:
        await asyncio.sleep(0)
        self._inside.give_back_now(checks, token)

    async def release(self, checks: Sequence[Check], token: str) -> None:
        await asyncio.sleep(0)
        self._inside.release_now(checks, token)

    async def renew(self, checks: Sequence[Check], tokens: Sequence[str]) -> None:
        self.renewed.append(([check.rule for check in checks], list(tokens)))

    async def read(self, checks: Sequence[Check]) -> Sequence[Reading]:
        return self._inside.read_now(checks)


class House:
    """A limiter with all that belongs to it."""

    def __init__(self, rules: str = RULES, *, shared: bool = False, queue: int = 10, poll: float | None = None) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.rulebook = Rulebook(parse(rules, "limits.toml", ready_made()))
        self.memory = MemoryLimitStore(self.clock, self.clock.wall)
        self.elsewhere = Elsewhere(self.memory)
        store: LimitStore = self.elsewhere if shared else self.memory
        self.line = Line(queue, poll)
        self.limiter = Limiter(store, self.rulebook, self.line, self.metrics, clock=self.clock)
        self._number = 0

    async def call(
        self,
        user: str = "ada",
        tool: str = "browser.open",
        *,
        tenant: str = "acme",
        wait: float = 0,
        nested: bool = False,
    ) -> Admission:
        self._number += 1
        asked = Asked(tenant, user, tool, tool.partition(".")[0], None, nested)
        token = f"call-{self._number}"
        admitted = self.limiter.admit_now(self.limiter.checks_for(asked), token, may_wait=wait > 0)
        return admitted or await self.limiter.admit(asked, token, wait)

    async def refused(
        self,
        user: str = "ada",
        tool: str = "browser.open",
        *,
        tenant: str = "acme",
        wait: float = 0,
        nested: bool = False,
    ) -> Failure:
        with pytest.raises(ToolwrightError) as raised:
            await self.call(user, tool, tenant=tenant, wait=wait, nested=nested)
        return raised.value.failure

    async def used(self) -> Mapping[str, int]:
        readings = await self.limiter.quota("acme", "ada", [("browser.open", "browser")])
        return {reading.check.rule: reading.used for reading in readings}

    def counted(self, name: str) -> Mapping[str, float]:
        """Values of a metric by the rule, with `~` before it for shadow."""
        (snapshot,) = [found for found in self.metrics.snapshot() if found["name"] == name]
        return {
            ("~" if "toolwright.limit.shadow" in point["attributes"] else "")
            + point["attributes"]["toolwright.limit.rule"]: point["value"]
            for point in snapshot["points"]
        }


@pytest.fixture(params=[False, True], ids=["in process", "shared"])
def house(request: pytest.FixtureRequest) -> House:
    return House(shared=request.param)


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


async def test_an_end_is_counted_once_and_giving_back_costs_nothing(house: House) -> None:
    first, second = await house.call(), await house.call()
    first.give_back()
    second.release()
    first.release()
    second.give_back()
    await house.limiter.close()
    assert await house.used() == {"browsing": 1, "user-running": 0, "tool-running": 0}


async def test_too_many_at_once_are_refused_at_once_when_they_may_not_wait(house: House) -> None:
    await house.call()
    await house.call()
    failure = await house.refused()
    assert failure.reason is Reason.CONCURRENCY_LIMITED
    assert failure.user_message == "2 calls may run at once, and that many are running; try again in a moment"
    assert failure.metadata["rule"] == "user-running"
    assert failure.metadata["used"] == "2"
    assert failure.metadata["outcome"] == "not_started"
    assert failure.quota[0].subject == "user ada"
    assert failure.retry_delay is not None
    assert failure.retry_delay > 0
    # A refusal takes nothing.
    assert (await house.used())["browsing"] == 2


async def test_a_call_waits_for_a_place_and_gets_it_when_one_ends(house: House) -> None:
    first, _ = await house.call(), await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    assert not waiting.done()
    assert house.line.waiting == 1
    first.release()
    assert (await waiting).token == "call-3"
    assert house.line.waiting == 0


async def test_who_comes_later_does_not_overtake_who_waits(house: House) -> None:
    first, _ = await house.call(), await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    first.release()
    later = asyncio.create_task(house.call(wait=LONG))
    assert (await waiting).token == "call-3"
    await settled()
    assert not later.done()
    (await waiting).release()
    assert (await later).token == "call-4"


async def test_a_call_whose_time_is_up_in_the_line_is_refused(house: House) -> None:
    await house.call()
    await house.call()
    failure = await house.refused(wait=0.005)
    assert failure.reason is Reason.CONCURRENCY_LIMITED
    assert "none ended in time" in failure.message
    assert house.line.waiting == 0
    assert (await house.used())["user-running"] == 2


async def test_a_call_that_is_cancelled_in_the_line_leaves_nothing_behind(house: House) -> None:
    first, _ = await house.call(), await house.call()
    waiting, next_one = asyncio.create_task(house.call(wait=LONG)), asyncio.create_task(house.call(wait=LONG))
    await settled()
    waiting.cancel()
    first.release()
    assert (await next_one).token == "call-4"
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await house.used()) == {"browsing": 3, "user-running": 2, "tool-running": 2}


async def test_a_full_line_refuses_at_once() -> None:
    house = House(queue=1)
    await house.call()
    await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    failure = await house.refused(wait=LONG)
    assert failure.reason is Reason.CONCURRENCY_LIMITED
    assert "as many wait as may" in failure.message
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_quiet_tenant_finds_room_in_the_line_that_another_has_filled() -> None:
    house = House(queue=2)
    for tenant in ("loud", "quiet"):
        await house.call(tenant=tenant)
        ends = await house.call(tenant=tenant)
    loud = [asyncio.create_task(house.call(tenant="loud", wait=LONG)) for _ in range(2)]
    await settled()
    quiet = asyncio.create_task(house.call(tenant="quiet", wait=LONG))
    with pytest.raises(ToolwrightError) as shed:
        await loud[1]
    assert shed.value.failure.reason is Reason.CONCURRENCY_LIMITED
    ends.release()
    assert (await quiet).token
    loud[0].cancel()
    await asyncio.wait(loud)


async def test_a_rate_that_is_used_up_meanwhile_refuses_who_waited(house: House) -> None:
    house.rulebook.replace(parse(RULES.replace("limit = 30", "limit = 3"), "limits.toml", None))
    first, _ = await house.call(), await house.call()
    waiting = [asyncio.create_task(house.call(wait=LONG)) for _ in range(2)]
    await settled()
    first.release()
    assert (await waiting[0]).token == "call-3"
    with pytest.raises(ToolwrightError) as refused:
        await waiting[1]
    assert refused.value.failure.reason is Reason.RATE_LIMITED
    assert house.line.waiting == 0


async def test_who_waits_for_its_user_may_then_wait_for_its_tool(house: House) -> None:
    ada = [await house.call() for _ in range(2)]
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    bob = await house.call("bob")
    ada[0].release()
    carl = asyncio.create_task(house.call("carl", wait=LONG))
    await settled()
    # One of the tool's three places was free, and ada's call was first.
    assert (waiting.done(), carl.done()) == (True, False)
    bob.release()
    assert (await carl).token


async def test_nested_calls_take_no_place_of_their_root_and_one_more_of_a_tool(house: House) -> None:
    roots = [await house.call(), await house.call(), await house.call("bob")]
    await house.refused("carl")
    nested = await house.call(nested=True)
    assert [check.rule for check in nested.checks] == ["browsing", "tool-running"]
    failure = await house.refused(nested=True)
    assert failure.metadata["rule"] == "tool-running"
    for each in (*roots, nested):
        each.release()


async def test_nested_calls_do_not_stand_behind_those_who_wait(house: House) -> None:
    for user in ("ada", "bob", "carl"):
        await house.call(user)
    waiting = asyncio.create_task(house.call("dora", wait=LONG))
    await settled()
    assert (await house.call(nested=True)).token
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_raised_limits_let_in_who_waits(house: House) -> None:
    await house.call()
    await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    house.rulebook.replace(parse(RULES.replace("limit = 2", "limit = 5"), "limits.toml", None))
    assert (await waiting).token == "call-3"


async def test_who_waits_for_a_limit_that_is_no_more_is_let_in(house: House) -> None:
    await house.call()
    await house.call()
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    house.rulebook.replace(parse("ready_made = false", "limits.toml", None))
    assert (await waiting).checks == ()


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


async def test_places_that_come_free_on_another_server_are_found() -> None:
    house = House(shared=True, poll=0.002)
    for number in range(2):
        house.memory.take_now(
            house.limiter.checks_for(Asked("acme", "ada", "browser.open", "browser")), f"theirs-{number}"
        )
    waiting = asyncio.create_task(house.call(wait=LONG))
    await settled()
    assert not waiting.done()
    house.memory.release_now((), "theirs-0")
    assert (await asyncio.wait_for(waiting, LONG)).token


async def test_overrides_of_a_tool_take_the_place_of_its_rules(house: House) -> None:
    asked = Asked("acme", "ada", "browser.open", "browser", {Kind.RUNNING: 1})
    await house.limiter.admit(asked, "first", 0)
    with pytest.raises(ToolwrightError) as raised:
        await house.limiter.admit(asked, "second", 0)
    assert raised.value.failure.metadata["rule"] == "tool-settings"
    # It is the same counter under either limit.
    assert [reading.used for reading in (await house.call("bob")).readings] == [1, 1, 2]
