"""docs/limits.md and examples/limits.toml say what the code does."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from toolwright_server.limits.model import Fail, Kind
from toolwright_server.limits.refusal import WARN_PERCENT
from toolwright_server.limits.rulebook import OVERRIDE, Rulebook
from toolwright_server.limits.rulefile import RULES_LIMIT, WINDOW_LEAST_SECONDS, WINDOW_LIMIT_SECONDS, parse, ready_made
from toolwright_server.limits.rules import Per, Rule, Tier
from toolwright_server.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "limits.md").read_text()
EXAMPLE = (ROOT / "examples" / "limits.toml").read_text()
DEFAULTS = (files("toolwright_server.limits") / "defaults.toml").read_text()
(SNIPPET,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first line begins with `heading`."""
    table = TEXT.partition(f"| {heading} |")[2].partition("\n\n")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def shown(rule: Rule) -> list[str]:
    slot = rule.slot
    period = f"{slot.window_seconds:g} s" if slot.kind is Kind.WINDOW else slot.kind.name.lower()
    category = f", `{rule.where.category}`" if rule.where.category else ""
    limits = ["unlimited" if rule.limits.get(tier, 0) is None else str(rule.limits.get(tier, "")) for tier in Tier]
    return [f"`{rule.name}`", f"`{slot.per}`, {period}{category}", *limits]


def test_the_table_of_rules_is_what_comes_with_the_server() -> None:
    assert rows("rule") == [shown(rule) for rule in ready_made().rules]


def test_the_table_of_costs_is_what_comes_with_the_server() -> None:
    costs = ready_made().costs
    credits_by_key = {row[0].strip("`"): [int(cell) * 1_000_000 for cell in row[1:4]] for row in rows("key | free")}
    assert credits_by_key == {
        "call_credits": [costs[tier].call_micros for tier in Tier],
        "task_credits": [costs[tier].task_micros for tier in Tier],
        "unpriced_credits": [costs[tier].estimate_micros for tier in Tier],
    }


def test_the_snippet_is_a_limits_file_that_does_what_is_said_of_it() -> None:
    book = Rulebook(parse(SNIPPET, "limits.md", ready_made()))
    assert [book.tier_of(tenant) for tenant in ("acme", "big.example", "anybody")] == ["pro", "enterprise", "free"]

    def held(tenant: str, category: str) -> dict[str, int]:
        return {check.rule: check.limit for check in book.checks_for(tenant, "ada", f"{category}.x", category)}

    assert held("anybody", "email")["mail"] == 20
    assert "mail" not in held("big.example", "email")
    assert held("acme", "email")["acme-mail"] == 500
    assert "mail" not in held("acme", "email")
    # A minute is another question than an hour.
    assert held("acme", "email")["user-minute-email"] == 10
    assert held("acme", "browser")["fewer-browsers"] == 5
    (month,) = [check for check in book.checks_for("acme", "ada", "crm.x", "crm") if check.rule == "acme-month"]
    assert (month.fail, month.limit) == (Fail.CLOSED, 100_000)


def test_every_word_that_may_be_written_is_explained() -> None:
    for word in [*Per, "window", "day", "month", "running", "unlimited"]:
        assert f'"{word}"' in TEXT
    for word in [*Tier, *Fail, "ready_made", "default_tier", OVERRIDE]:
        assert word in TEXT
    assert f"at least {WINDOW_LEAST_SECONDS} and at most {WINDOW_LIMIT_SECONDS}" in TEXT
    assert f"{RULES_LIMIT:,} rules" in TEXT
    keys = {name.strip("`") for row in rows("key | default") for name in row[0].split(", ")}
    assert keys == {
        "name", "per", "count", "window_seconds", "limit", "tenant", "user", "tool", "category", "fail", "shadow",
    }  # fmt: skip
    assert all(f"{percent} %" in TEXT for percent in WARN_PERCENT)


@pytest.mark.parametrize("name", ["limits_file", "limits_file_check_seconds", "limits_queue_limit"])
def test_the_settings_that_are_named_are_there(name: str) -> None:
    assert name in Settings.model_fields
    assert f"`{name}`" in TEXT


def test_the_example_says_nothing_as_it_stands_and_all_that_holds_without_its_marks() -> None:
    assert tomllib.loads(EXAMPLE) == {}
    plain = re.sub(r"^#(?! )", "", EXAMPLE, flags=re.MULTILINE)
    assert tomllib.loads(plain) == {"ready_made": True, **tomllib.loads(DEFAULTS)}
    assert parse(plain, "limits.toml", ready_made()) == ready_made()
