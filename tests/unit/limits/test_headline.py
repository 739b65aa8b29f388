"""The one line about limits in every answer."""

from tests.unit.limits.clock import Clock
from toolwright_server.limits.headline import headline
from toolwright_server.limits.limiter import Asked, Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rulefile import parse
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.telemetry import Metrics

RULE = """
[[rule]]
name = "{name}"
per = "{per}"
count = "{count}"
limit = {limit}
{more}
"""


def told(*rules: str, calls: int = 1) -> str:
    """The headline of the last of so many calls."""
    clock = Clock()
    rulebook = Rulebook(parse("ready_made = false\n" + "".join(rules), "test", None))
    limiter = Limiter(MemoryLimitStore(clock, clock.wall), rulebook, Line(0), Metrics())
    checks = limiter.checks_for(Asked("acme", "ada", "crm.contact.get", "crm"))
    found = ""
    for number in range(calls):
        admission = limiter.admit_now(checks, f"call-{number}")
        assert admission is not None
        found = headline(admission)
        admission.release()
    return found


def rule(name: str, limit: int, count: str = "window", per: str = "user", *more: str) -> str:
    extra = ("window_seconds = 60",) if count == "window" else ()
    return RULE.format(name=name, per=per, count=count, limit=limit, more="\n".join((*extra, *more)))


def test_it_tells_what_is_left_and_when_one_more_fits() -> None:
    assert told(rule("a-minute", 3)) == '"a-minute";r=2;t=0'
    assert told(rule("a-minute", 3), calls=3) == '"a-minute";r=0;t=60'


def test_it_is_about_the_limit_that_is_nearest_to_its_end() -> None:
    assert told(rule("minute", 100), rule("day", 4, "day"), calls=2).startswith('"day";r=2;t=')


def test_nothing_is_said_of_places_of_rules_in_shadow_and_without_rules() -> None:
    assert told(rule("places", 3, "running")) == ""
    assert told(rule("tried", 3, "window", "user", "shadow = true")) == ""
    assert told() == ""
