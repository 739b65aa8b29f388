"""What may be written in a limits file, and what is said to whoever writes something else."""

import os
import textwrap
from pathlib import Path

import pytest

from toolwright_server.errors import SettingsError
from toolwright_server.limits.model import Fail, Kind
from toolwright_server.limits.rulefile import RULES_LIMIT, SIZE_LIMIT_BYTES, parse, read, ready_made
from toolwright_server.limits.rules import CostLimits, Per, Rules, Slot, Tier, Where

RULE = '[[rule]]\nname = "mine"\nper = "user+category"\nwindow_seconds = 60\nlimit = 5\n'


def over_ready_made(text: str) -> Rules:
    return parse(text, "limits.toml", ready_made())


def alone(text: str) -> Rules:
    return parse(text, "limits.toml", None)


def test_what_comes_with_the_server_is_what_was_promised() -> None:
    rules = ready_made()
    minute = Slot(Kind.WINDOW, Per.USER_CATEGORY, 60)
    by_category = {rule.where.category: rule.limits for rule in rules.rules if rule.slot == minute}
    assert {category: limits[Tier.PRO] for category, limits in by_category.items()} == {
        "": 30, "browser": 30, "email": 10, "drive": 20, "calendar": 15, "http": 60, "ai": 30, "crm": 100,
        "whatsapp": 10, "knowledge": 200, "system": 60, "diagnostics": None,
    }  # fmt: skip
    assert by_category["browser"] == {Tier.FREE: 10, Tier.PRO: 30, Tier.ENTERPRISE: 100}
    assert rules.default_tier is Tier.PRO
    thousand = 1_000_000_000
    assert rules.costs == {
        Tier.FREE: CostLimits(thousand, thousand, 100_000_000),
        Tier.PRO: CostLimits(thousand, 10 * thousand, 100_000_000),
        Tier.ENTERPRISE: CostLimits(thousand, 100 * thousand, 100_000_000),
    }


def test_every_word_of_a_rule_is_read() -> None:
    (rule,) = alone(
        '[[rule]]\nname = "mine"\nper = "user+tool"\ncount = "running"\n'
        'limit = { free = 1, enterprise = "unlimited" }\n'
        'tenant = "acme"\nuser = "ada"\ntool = "crm.find"\ncategory = "crm"\nfail = "closed"\nshadow = true\n'
    ).rules
    assert rule.name == "mine"
    assert rule.slot == Slot(Kind.RUNNING, Per.USER_TOOL, 0, shadow=True)
    assert rule.limits == {Tier.FREE: 1, Tier.ENTERPRISE: None}
    assert rule.where == Where("ada", "acme", "crm.find", "crm")
    assert rule.fail is Fail.CLOSED


def test_what_is_not_said_has_a_default() -> None:
    (rule,) = alone(RULE).rules
    assert (rule.slot, rule.where, rule.fail) == (Slot(Kind.WINDOW, Per.USER_CATEGORY, 60), Where(), Fail.LOCAL)
    assert rule.limits == dict.fromkeys(Tier, 5)


def test_a_file_takes_the_place_of_what_it_is_about_and_leaves_the_rest() -> None:
    rules = over_ready_made(RULE + 'category = "crm"\n').rules
    assert [rule.name for rule in rules].count("mine") == 1
    assert "user-minute-crm" not in [rule.name for rule in rules]
    assert len(rules) == len(ready_made().rules)


def test_a_file_takes_the_place_of_the_rule_whose_name_it_uses() -> None:
    rules = over_ready_made(RULE.replace("mine", "tenant-running") + 'category = "games"\n').rules
    (rule,) = [rule for rule in rules if rule.name == "tenant-running"]
    assert rule.where.category == "games"


def test_a_file_may_do_without_what_comes_with_the_server() -> None:
    rules = over_ready_made("ready_made = false\n" + RULE)
    assert [rule.name for rule in rules.rules] == ["mine"]
    assert rules.costs == ready_made().costs


def test_tenants_have_the_tier_that_is_named_or_the_default() -> None:
    rules = over_ready_made('default_tier = "free"\n[tenants]\n"acme.org" = "enterprise"\n')
    assert rules.tier_of("acme.org") is Tier.ENTERPRISE
    assert rules.tier_of("anybody") is Tier.FREE


def test_costs_are_read_in_micro_credits_and_by_tier() -> None:
    costs = over_ready_made(
        "[cost]\ncall_credits = 0.000001\ntask_credits = { pro = 20 }\nunpriced_credits = 0\nshadow = true\n"
    ).costs
    assert costs[Tier.PRO] == CostLimits(1, 20_000_000, 0, shadow=True)
    assert costs[Tier.FREE] == CostLimits(1, 1_000_000_000, 0, shadow=True)


def test_an_empty_file_changes_nothing() -> None:
    assert over_ready_made("") == ready_made()


def mistakes() -> list[tuple[str, str]]:
    """Texts of limits files, and what is said to who wrote them."""
    blocks = (Path(__file__).parent / "mistakes.txt").read_text().strip().split("\n\n")[1:]
    parts = [block.partition("\n") for block in blocks]
    return [(textwrap.dedent(text) + "\n", sentence) for sentence, _, text in parts]


BAD = mistakes()


def test_there_are_as_many_mistakes_as_somebody_has_thought_of() -> None:
    assert len(BAD) > 50


@pytest.mark.parametrize(("text", "sentence"), BAD, ids=range(1, len(BAD) + 1))
def test_every_mistake_is_said_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        over_ready_made(text)
    assert str(raised.value) == sentence


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        over_ready_made('default_tier = "gold"\n' + RULE.replace("5", "0").replace("60", "0"))
    assert [line.partition(": ")[0] for line in str(raised.value).splitlines()] == [
        "limits.toml, line 1",
        "limits.toml, line 5",
        "limits.toml, line 6",
    ]


def test_letting_pass_may_be_about_some_of_the_calls_of_a_counter() -> None:
    text = '[[rule]]\nname = "r"\nper = "user"\ncount = "running"\nlimit = "unlimited"\n'
    text += 'tenant = "acme"\nuser = "ada"\ntool = "crm.find"\ncategory = "crm"\n'
    (rule,) = alone(text).rules
    assert set(rule.limits.values()) == {None}


def test_a_line_that_cannot_be_found_is_not_made_up() -> None:
    with pytest.raises(SettingsError) as raised:
        over_ready_made('rule = [{ name = "a", per = "user", count = "day", limit = 0 }]')
    assert str(raised.value).startswith("limits.toml: rule a: limit must be a whole number")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    for content, sentence in (
        (None, f"the limits file {path} cannot be read: No such file or directory"),
        (b"\xff", f"the limits file {path} is not UTF-8: invalid start byte at byte 0"),
        (b"#" * (SIZE_LIMIT_BYTES + 1), f"the limits file {path} is larger than 1048576 bytes: shorten it"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError) as raised:
            read(path)
        assert str(raised.value) == sentence


def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    os.mkfifo(path)
    with pytest.raises(SettingsError, match="is no regular file"):
        read(path)


def test_rules_are_counted() -> None:
    text = "".join(
        f'[[rule]]\nname = "r{n}"\nper = "user"\nwindow_seconds = 60\nlimit = 1\ntenant = "t{n}"\n'
        for n in range(RULES_LIMIT + 1)
    )
    with pytest.raises(SettingsError, match="2001 rules are more than 2000"):
        over_ready_made(text)


def test_a_file_is_read_over_what_comes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(RULE)
    assert read(path) == parse(RULE, str(path), ready_made())
