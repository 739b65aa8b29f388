"""Which rules hold for a call, and which counters they name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.limits.model import Check, Fail, Kind
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rulefile import parse, ready_made
from toolwright_server.limits.rules import CostLimits, Rules, Tier


def rules(text: str) -> Rules:
    return parse("ready_made = false\n" + text, "limits.toml", ready_made())


def rule(name: str, *, limit: str = "5", per: str = "user+tool", count: str = "day", **where: str) -> str:
    lines = [f'name = "{name}"', f'per = "{per}"', f'count = "{count}"', f"limit = {limit}"]
    lines += ["window_seconds = 60"] if count == "window" else []
    lines += [f"{key} = {value if value == 'true' else repr(value)}" for key, value in where.items()]
    return "[[rule]]\n" + "\n".join(lines) + "\n"


def held(book: Rulebook, tenant: str = "acme", user: str = "ada", tool: str = "crm.find") -> list[tuple[str, int]]:
    return [(check.rule, check.limit) for check in book.checks_for(tenant, user, tool, tool.partition(".")[0])]


# Each more specific than the one before.
LADDER = [
    rule("any"),
    rule("category", category="crm"),
    rule("tool", tool="crm.find"),
    rule("tool in category", tool="crm.find", category="crm"),
    rule("tenant", tenant="acme"),
    rule("tenant and category", tenant="acme", category="crm"),
    rule("tenant and tool", tenant="acme", tool="crm.find"),
    rule("user", tenant="acme", user="ada"),
    rule("user and category", tenant="acme", user="ada", category="crm"),
    rule("user and tool", tenant="acme", user="ada", tool="crm.find"),
]


@pytest.mark.parametrize("top", range(len(LADDER)))
def test_the_most_specific_rule_holds_wherever_it_stands(top: int) -> None:
    name = LADDER[top].split('"')[1]
    for order in (LADDER[: top + 1], LADDER[top::-1]):
        assert held(Rulebook(rules("".join(order)))) == [(name, 5)]


def test_rules_about_other_calls_do_not_hold() -> None:
    book = Rulebook(rules("".join(LADDER)))
    assert held(book, "other", "ada", "ai.ask") == [("any", 5)]
    assert held(book, "other", "ada", "crm.find") == [("tool in category", 5)]
    assert held(book, "acme", "bob", "ai.ask") == [("tenant", 5)]
    assert held(book, "acme", "ada", "ai.ask") == [("user", 5)]
    assert held(book, "other", "ada", "crm.list") == [("category", 5)]


def test_a_rule_that_does_not_name_the_tier_leaves_the_call_to_the_next() -> None:
    text = '[tenants]\nsmall = "free"\n' + rule("any") + rule("crm", limit="{ free = 1 }", category="crm")
    book = Rulebook(rules(text))
    assert held(book, "small") == [("crm", 1)]
    assert held(book) == [("any", 5)]


def test_what_is_unlimited_is_not_counted() -> None:
    book = Rulebook(rules(rule("any") + rule("free", limit='"unlimited"', category="crm")))
    assert held(book) == []
    assert held(book, tool="ai.ask") == [("any", 5)]


def test_different_questions_are_all_asked_and_places_last() -> None:
    text = "".join(
        [
            rule("places", count="running"),
            rule("month", count="month"),
            rule("day"),
            rule("minute", count="window"),
            rule("by tenant", per="tenant"),
        ]
    )
    names = [name for name, _ in held(Rulebook(rules(text)))]
    assert set(names) == {"minute", "day", "by tenant", "month", "places"}
    assert (names[0], names[-1]) == ("minute", "places")


def test_a_rule_in_shadow_stands_beside_the_one_that_holds_with_a_counter_of_its_own() -> None:
    book = Rulebook(rules(rule("holds") + rule("tried", limit="1", shadow="true", fail="open", category="crm")))
    first, second = book.checks_for("acme", "ada", "crm.find", "crm")
    assert (first.rule, first.shadow, first.fail) == ("holds", False, Fail.LOCAL)
    assert (second.rule, second.shadow, second.fail) == ("tried", True, Fail.OPEN)
    assert first.key != second.key


def test_a_check_says_whom_and_what_it_is_about_in_words() -> None:
    by_category = rule("a", per="user+category", count="window", category="crm")
    text = by_category + rule("b", per="tenant+tool") + rule("c", per="tenant", count="month")
    found = Rulebook(rules(text)).checks_for("acme", "ada", "crm.find", "crm")
    assert [(check.what, check.subject, check.window_seconds, check.kind) for check in found] == [
        ("crm calls", "user ada", 60.0, Kind.WINDOW),
        ("calls of crm.find", "tenant acme", 0.0, Kind.DAY),
        ("calls", "tenant acme", 0.0, Kind.MONTH),
    ]
    long = Rulebook(rules(by_category)).checks_for("acme", "u" * 500, "crm.find", "crm")
    assert len(long[0].subject) < 60


NAMES = st.text(max_size=6) | st.sampled_from(["a", "a:b", "{a}", "}", "a%3Ab", "tool=x", "\ud800"])
EVERYTHING = "".join(
    rule(per, per=per, count=count) if count == "day" else rule(f"{per} {count}", per=per, count=count)
    for per in ("user", "user+category", "user+tool", "tenant", "tenant+category", "tenant+tool")
    for count in ("day", "running", "window")
)
BOOK = Rulebook(rules(EVERYTHING))


def _counted_together(check: Check, tenant: str, user: str, tool: str, category: str) -> tuple[object, ...]:
    """What a counter is told apart by, from the rule's name."""
    per = check.rule.partition(" ")[0].split("+")
    parts = {"user": user, "category": category, "tool": tool, "tenant": ""}
    return tenant, check.rule, *(parts[part] for part in per)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES.filter(bool), NAMES), min_size=2, max_size=6))
def test_two_calls_share_a_counter_exactly_when_the_rule_says_so(calls: list[tuple[str, str, str, str]]) -> None:
    by_key: dict[str, tuple[object, ...]] = {}
    by_meaning: dict[tuple[object, ...], str] = {}
    for call in calls:
        for check in BOOK.checks_for(*call):
            meaning = _counted_together(check, *call)
            assert by_key.setdefault(check.key, meaning) == meaning
            assert by_meaning.setdefault(meaning, check.key) == check.key


@given(NAMES.filter(bool), NAMES)
def test_all_keys_of_a_call_lie_in_the_slot_of_its_tenant(tenant: str, user: str) -> None:
    keys = [check.key for check in BOOK.checks_for(tenant, user, "crm.find", "crm")]
    assert len(keys) == 18
    # Redis hashes what stands between the first { and the first } after it.
    slots = {key[key.index("{") + 1 : key.index("}")] for key in keys}
    assert len(slots) == 1
    assert all(key.startswith("{") for key in keys)
    assert "" not in slots


def test_keys_do_not_depend_on_names_and_limits_of_rules_so_that_what_was_counted_stays() -> None:
    book = Rulebook(rules(rule("old", limit="5")))
    (before,) = book.checks_for("acme", "ada", "crm.find", "crm")
    book.replace(rules(rule("new", limit="7", category="crm")))
    (after,) = book.checks_for("acme", "ada", "crm.find", "crm")
    assert (before.key, after.rule, after.limit) == (after.key, "new", 7)


def test_overrides_hold_for_all_users_of_the_tenant_before_every_rule() -> None:
    text = (
        rule("minute", per="tenant+tool", count="window")
        + rule("tried", per="tenant+tool", count="window", shadow="true")
        + rule("running", per="tenant+tool", count="running")
        + rule("user", per="user+tool", count="running")
    )
    book = Rulebook(rules(text))
    overrides = {Kind.WINDOW: 1, Kind.MONTH: 9}
    found = book.checks_for("acme", "ada", "crm.find", "crm", overrides)
    assert {(check.rule, check.kind, check.limit) for check in found} == {
        ("tool-settings", Kind.WINDOW, 1),
        ("tool-settings", Kind.MONTH, 9),
        ("tried", Kind.WINDOW, 5),
        ("running", Kind.RUNNING, 5),
        ("user", Kind.RUNNING, 5),
    }
    keys = {check.rule: check.key for check in book.checks_for("acme", "bob", "crm.find", "crm")}
    assert keys["minute"] in [check.key for check in found if check.rule == "tool-settings"]
    assert all("bob" not in key for name, key in keys.items() if name != "user")


def test_nested_calls_hold_places_of_their_tool_alone_and_one_more() -> None:
    text = EVERYTHING.replace("limit = 5", "limit = 2")
    found = Rulebook(rules(text)).checks_for("acme", "ada", "crm.find", "crm", nested=True)
    assert [(check.rule, check.limit) for check in found if check.kind is Kind.RUNNING] == [
        ("user+tool running", 3),
        ("tenant+tool running", 3),
    ]
    assert sum(check.limit == 2 for check in found) == 12


def test_what_holds_is_found_out_once_and_again_when_the_rules_change() -> None:
    book = Rulebook(rules(rule("any")))
    told: list[int] = []
    book.when_replaced(lambda: told.append(book.rules.rules[0].limits[Tier.PRO] or 0))
    first = book.checks_for("acme", "ada", "crm.find", "crm")
    assert book.checks_for("acme", "ada", "crm.find", "crm") is first
    book.replace(rules(rule("any", limit="6")))
    assert book.checks_for("acme", "ada", "crm.find", "crm") is not first
    assert told == [6]


def test_only_so_many_are_kept_and_those_in_use_stay() -> None:
    book = Rulebook(rules(rule("any")), kept=10)
    mine = book.checks_for("acme", "ada", "crm.find", "crm")
    for number in range(1_000):
        book.checks_for("acme", str(number), "crm.find", "crm")
        assert book.checks_for("acme", "ada", "crm.find", "crm") is mine
    assert len(book) <= 20


def test_tiers_and_costs_are_those_of_the_tenant() -> None:
    book = Rulebook(parse('[tenants]\nsmall = "free"\n', "limits.toml", ready_made()))
    assert (book.tier_of("small"), book.tier_of("acme")) == (Tier.FREE, Tier.PRO)
    assert book.cost_limits("small") == CostLimits(10**9, 10**9, 10**8)
    assert book.cost_limits("acme") == CostLimits(10**9, 10**10, 10**8)


def test_what_stands_for_a_caller_is_shown_also_where_no_rule_names_a_category() -> None:
    book = Rulebook(rules(rule("all", per="user") + rule("kind", per="user+category") + rule("tool")))
    assert [check.rule for check in book.standing("acme", "ada", [])] == ["all"]
    found = book.standing("acme", "ada", [("crm.find", "crm")])
    assert [check.rule for check in found] == ["all", "kind", "tool"]


def test_what_stands_for_a_caller_is_each_counter_once() -> None:
    book = Rulebook(ready_made())
    found = book.standing("acme", "ada", [("crm.find", "crm"), ("crm.list", "crm"), ("games.play", "games")])
    names = [check.rule for check in found]
    assert names.count("user-minute-crm") == 1
    assert names.count("user-minute") == 1
    assert names.count("user-running") == 1
    assert names.count("tool-running") == 3
    assert "user-minute-whatsapp" in names
    assert len({check.key for check in found}) == len(found)
    assert not any("tool" in check.rule for check in book.standing("acme", "ada", []))
