"""Reads rules from TOML: every word known, every number possible, or a sentence that says where and what to change.

Never changes what holds: who reads decides what becomes of it.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

from toolwright_server.errors import SettingsError
from toolwright_server.limits.model import Fail, Kind
from toolwright_server.limits.rules import CostLimits, Per, Rule, Rules, Slot, Tier, Where
from toolwright_server.limits.ruletable import Lines, Table

UNLIMITED: Final = "unlimited"
SIZE_LIMIT_BYTES: Final = 1 << 20
WINDOW_LEAST_SECONDS: Final = 0.001
WINDOW_LIMIT_SECONDS: Final = 86_400
# Each is matched with a call when it first comes, and shown by GetQuota.
RULES_LIMIT: Final = 2_000
# A window keeps an instant for each call that it has let in.
_MOST_IN_A_WINDOW = 1_000_000
_MOST = 1_000_000_000
_KINDS: Final = {"window": Kind.WINDOW, "day": Kind.DAY, "month": Kind.MONTH, "running": Kind.RUNNING}
_CREDITS: Final = ("call_credits", "task_credits", "unpriced_credits")


def ready_made() -> Rules:
    """The rules that come with the server."""
    source = files("toolwright_server.limits") / "defaults.toml"
    return parse(source.read_text(encoding="utf-8"), "defaults.toml", None)


def read(path: Path, below: Rules | None = None) -> Rules:
    """The rules of a file over those that come with the server. Raises SettingsError: a sentence for each mistake."""
    try:
        # Of a pipe nobody writes to, opening would wait for ever.
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(f"the limits file {path} is no regular file: it is read again when it changes")
            raw = file.read(SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"the limits file {path} cannot be read: {error.strerror}") from None
    if len(raw) > SIZE_LIMIT_BYTES:
        raise SettingsError(f"the limits file {path} is larger than {SIZE_LIMIT_BYTES} bytes: shorten it")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"the limits file {path} is not UTF-8: {error.reason} at byte {error.start}") from None
    return parse(text, str(path), below or ready_made())


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def parse(text: str, name: str, below: Rules | None) -> Rules:
    """The rules of a text; `below` are those that it is read over: without them, costs that it does not name are 0.

    Raises SettingsError.
    """
    try:
        document: dict[str, Any] = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name} is no TOML: {error}") from None
    mistakes: list[str] = []
    lines = Lines(name, text)
    top = Table(document, lines.at("", 0), "", mistakes)
    ready = top.flag("ready_made", default=True)
    default_tier = top.choice("default_tier", Tier, default=below.default_tier if below else Tier.PRO)
    tenants = Table(top.table("tenants"), lines.at("tenants", 0), "tenants: ", mistakes)
    tiers = {tenant: tenants.choice(tenant, Tier, default=default_tier) for tenant in tenants.given}
    costs = _costs(Table(top.table("cost"), lines.at("cost", 0), "cost: ", mistakes), below)
    rules = tuple(_rules(top.tables("rule"), lines, mistakes))
    top.refuse_others()
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    found = Rules(rules, costs, default_tier, {**(below.tiers if below else {}), **tiers})
    return found.over(below) if below and ready else found


def _rules(tables: list[dict[str, Any]], lines: Lines, mistakes: list[str]) -> Iterator[Rule]:
    if len(tables) > RULES_LIMIT:
        mistakes.append(f"{len(tables)} rules are more than {RULES_LIMIT}: let some of them hold for more calls")
        return
    names: set[str] = set()
    places: dict[tuple[Slot, Where], str] = {}
    for index, given in enumerate(tables):
        shown = given.get("name")
        table = Table(given, lines.at("rule", index), f"rule {shown or index + 1}: ", mistakes)
        before = len(mistakes)
        rule = _rule(table)
        table.refuse_others()
        if rule is None or len(mistakes) > before:
            continue
        if rule.name in names:
            table.refuse("name", f"{rule.name!r} is the name of two rules: give each its own")
        same = places.get((rule.slot, rule.where))
        if same is not None:
            table.refuse("", f"counts the same calls as rule {same}: keep one, with its limits by tier in one table")
        names.add(rule.name)
        places[rule.slot, rule.where] = rule.name
        yield rule


def _rule(table: Table) -> Rule | None:
    name = table.text("name", required=True)
    per = table.choice("per", Per)
    kind = _KINDS[table.one_of("count", tuple(_KINDS), default="window")]
    where = Where(*(table.text(key) for key in ("user", "tenant", "tool", "category")))
    slot = Slot(kind, per, _window(table, kind), table.flag("shadow", default=False))
    limits = _limits(table, _MOST_IN_A_WINDOW if kind is Kind.WINDOW else _MOST)
    fail = table.choice("fail", Fail, default=Fail.LOCAL)
    _check_fits(table, per, where, limits)
    return Rule(name, slot, limits, where, fail)


def _window(table: Table, kind: Kind) -> float:
    if kind is not Kind.WINDOW:
        if table.taken("window_seconds") is not None:
            table.refuse("window_seconds", 'is for count = "window" alone: remove it')
        return 0.0
    seconds = table.number("window_seconds", "is missing: a rate needs the length of its window")
    if not WINDOW_LEAST_SECONDS <= seconds <= WINDOW_LIMIT_SECONDS:
        least, most = WINDOW_LEAST_SECONDS, WINDOW_LIMIT_SECONDS
        table.refuse("window_seconds", f"must be at least {least} and at most {most}; for more, count days")
    return float(seconds)


def _limits(table: Table, most: int) -> Mapping[Tier, int | None]:
    wanted = f'must be a whole number from 1 to {most}, "{UNLIMITED}", or a table of them by tier'
    value: Any = table.taken("limit")
    if not isinstance(value, dict):
        limit = _limit(value, most)
        if limit == 0:
            table.refuse("limit", "is missing" if value is None else wanted)
        return dict.fromkeys(Tier, limit)
    limits: dict[Tier, int | None] = {}
    for tier, each in cast("dict[str, Any]", value).items():
        limit = _limit(each, most)
        if tier not in tuple(Tier):
            table.refuse("limit", f"names the tier {tier!r}: use {', '.join(Tier)}")
        elif limit == 0:
            table.refuse("limit", f"{wanted.replace('must', 'by tier must').partition(', or')[0]}, not {each!r}")
        else:
            limits[Tier(tier)] = limit
    if not value:
        table.refuse("limit", "names no tier: remove the rule, or name one")
    return limits


def _limit(value: Any, most: int) -> int | None:
    """None: any number; 0: not what may be written there."""
    if value == UNLIMITED:
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most else 0


def _check_fits(table: Table, per: Per, where: Where, limits: Mapping[Tier, int | None]) -> None:
    """A counter has one limit, whatever call takes from it; only letting calls pass may be about some of them."""
    if where.user and not where.tenant:
        table.refuse("user", "is a name within a tenant: name the tenant as well")
    if all(limit is None for limit in limits.values()):
        return
    parts = per.split("+")
    if where.user and "user" not in parts:
        table.refuse("user", f'does not go with per = "{per}", which all users share; only limit = "{UNLIMITED}" does')
    if where.category and len(parts) == 1:
        table.refuse("category", f'needs per = "{per}+category", a counter for each, or limit = "{UNLIMITED}"')
    if where.tool and "tool" not in parts:
        table.refuse("tool", f'needs per = "{parts[0]}+tool", a counter for each, or limit = "{UNLIMITED}"')


def _costs(table: Table, below: Rules | None) -> Mapping[Tier, CostLimits]:
    given = {key: _credits(table, key) for key in _CREDITS}
    shadow = table.taken("shadow")
    if shadow is not None and not isinstance(shadow, bool):
        table.refuse("shadow", "must be true or false")
    table.refuse_others()
    costs: dict[Tier, CostLimits] = {}
    for tier in Tier:
        old = below.costs[tier] if below else CostLimits(0, 0)
        call, task, estimate = (given[key].get(tier) for key in _CREDITS)
        costs[tier] = CostLimits(
            old.call_micros if call is None else call,
            old.task_micros if task is None else task,
            old.estimate_micros if estimate is None else estimate,
            old.shadow if shadow is None else bool(shadow),
        )
    return costs


def _credits(table: Table, key: str) -> dict[Tier, int]:
    """Micro-credits by tier; absent where nothing is said."""
    value: Any = table.taken(key)
    if value is None:
        return {}
    by_tier = cast("dict[str, Any]", value) if isinstance(value, dict) else dict.fromkeys(Tier, value)
    found: dict[Tier, int] = {}
    for tier, each in by_tier.items():
        micros = _micros(each)
        if tier not in tuple(Tier):
            table.refuse(key, f"names the tier {tier!r}: use {', '.join(Tier)}")
        elif micros is None:
            table.refuse(key, f"must be credits, 0 or more with at most six decimals, not {each}")
            break
        else:
            found[Tier(tier)] = micros
    return found


def _micros(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not Decimal(value).is_finite():
        return None
    micros = Decimal(value) * 1_000_000
    return int(micros) if 0 <= micros < 2**63 and micros == int(micros) else None
