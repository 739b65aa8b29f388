"""Which counters a call takes from: the rules that hold for it, most specific first, made once and kept.

Counts nothing. Rules may be replaced while calls are made; what was counted stays, as keys do not depend on rules.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from toolwright_server.limits.model import Check, Kind
from toolwright_server.limits.rules import CostLimits, Per, Rule, Rules, Slot, Tier, Where

Checks = tuple[Check, ...]

OVERRIDE: Final = "tool-settings"
"""The name of the rule by which a tenant's own settings of a tool hold."""

# A place of a running call is asked for last: a call may wait for it, if nothing else refuses.
_ORDER = {Kind.WINDOW: 0, Kind.DAY: 1, Kind.MONTH: 2, Kind.RUNNING: 3}
_NAMES = {Kind.DAY: "day", Kind.MONTH: "month", Kind.RUNNING: "running"}
_OF_TOOL = (Per.USER_TOOL, Per.TENANT_TOOL)
_OF_CATEGORY = (Per.USER_CATEGORY, Per.TENANT_CATEGORY)
_OVERRIDE_WINDOW_SECONDS = 60.0
_SHOWN = 48


class Rulebook:
    """The rules of a server. Keeps the checks of the last few thousand callers and tools, at most twice `kept`."""

    def __init__(self, rules: Rules, kept: int = 8_192) -> None:
        self._kept = kept
        self._listeners: list[Callable[[], None]] = []
        self.replace(rules)

    def __len__(self) -> int:
        """How many callers and tools are kept."""
        return len(self._recent) + len(self._earlier)

    @property
    def rules(self) -> Rules:
        """The rules that hold now."""
        return self._rules

    def replace(self, rules: Rules) -> None:
        """Let other rules hold from now on."""
        self._rules = rules
        self._index: dict[Slot, dict[Where, Rule]] = {}
        for rule in rules.rules:
            self._index.setdefault(rule.slot, {})[rule.where] = rule
        # The parts that the rules of a slot name, the most specific first.
        self._ranks = {
            slot: sorted({where.rank for where in found}, reverse=True) for slot, found in self._index.items()
        }
        self._recent: dict[tuple[object, ...], Checks] = {}
        self._earlier: dict[tuple[object, ...], Checks] = {}
        for listener in self._listeners:
            listener()

    def when_replaced(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the rules were replaced."""
        self._listeners.append(listener)

    def checks_for(
        self,
        tenant: str,
        user: str,
        tool: str,
        category: str,
        overrides: Mapping[Kind, int] | None = None,
        *,
        nested: bool = False,
    ) -> Checks:
        """What a call takes from, places of running calls last.

        `overrides` are limits by which the tenant's settings of the tool replace those of the rules, for all its users
        together: WINDOW a minute, DAY, MONTH, RUNNING. A `nested` call takes no place that its root holds, and one more
        than the limit of its tool.
        """
        key = (tenant, user, tool, category, nested, frozenset(overrides.items()) if overrides else None)
        found = self._recent.get(key)
        if found is None:
            found = self._earlier.get(key)
            if found is None:
                found = self._made(Where(user, tenant, tool, category), overrides or {}, nested=nested)
            if len(self._recent) >= self._kept:
                self._recent, self._earlier = {}, self._recent
            self._recent[key] = found
        return found

    def tier_of(self, tenant: str) -> Tier:
        """The tier that a tenant is in."""
        return self._rules.tier_of(tenant)

    def cost_limits(self, tenant: str) -> CostLimits:
        """What calls of a tenant may cost."""
        return self._rules.costs[self._rules.tier_of(tenant)]

    def standing(self, tenant: str, user: str, tools: Iterable[tuple[str, str]]) -> Checks:
        """Every counter that a caller's calls take from, whatever they are, in the categories that rules name and of
        (tool, category).
        """
        named = {
            rule.where.category
            for rule in self._rules.rules
            if rule.where.tenant in {"", tenant} and rule.where.user in {"", user}
        }
        by_key: dict[str, Check] = {}
        for tool, category in (*(("", category) for category in sorted({"", *named})), *tools):
            for check in self.checks_for(tenant, user, tool, category):
                by_key[check.key] = check
        return tuple(sorted(by_key.values(), key=_by_kind))

    def _made(self, call: Where, overrides: Mapping[Kind, int], *, nested: bool) -> Checks:
        tier = self._rules.tier_of(call.tenant)
        found: list[tuple[Slot, int, Rule | None]] = []
        for rule in self._holding(call, tier):
            limit = rule.limits[tier]
            if limit is not None and not _replaced(rule.slot, overrides):
                found.append((rule.slot, limit, rule))
        for kind, limit in overrides.items():
            seconds = _OVERRIDE_WINDOW_SECONDS if kind is Kind.WINDOW else 0.0
            found.append((Slot(kind, Per.TENANT_TOOL, seconds), limit, None))
        checks: list[Check] = []
        for slot, limit, rule in found:
            of_tool = slot.per in _OF_TOOL
            if (of_tool and not call.tool) or (slot.per in _OF_CATEGORY and not call.category):
                continue
            if nested and slot.kind is Kind.RUNNING:
                # What is a user's or a tenant's, the root holds for all its tree.
                if of_tool:
                    checks.append(_check(slot, call, limit + 1, rule))
            else:
                checks.append(_check(slot, call, limit, rule))
        return tuple(sorted(checks, key=_by_kind))

    def _holding(self, call: Where, tier: Tier) -> Iterator[Rule]:
        """The most specific rule of each slot that says something about the call."""
        for slot, ranks in self._ranks.items():
            for user, tenant, tool, category in ranks:
                where = Where(
                    call.user if user else "",
                    call.tenant if tenant else "",
                    call.tool if tool else "",
                    call.category if category else "",
                )
                rule = self._index[slot].get(where)
                if rule is not None and tier in rule.limits:
                    yield rule
                    break


def _check(slot: Slot, call: Where, limit: int, rule: Rule | None) -> Check:
    parts = slot.per.split("+")
    period = _NAMES.get(slot.kind) or f"{slot.window_seconds:.12g}s"
    holder = "user" if "user" in parts else "tenant"
    key = f"{{{_quoted(call.tenant)}}}:{period}{':shadow' if slot.shadow else ''}"
    for part in parts:
        if part != "tenant":
            key += f":{part}={_quoted(getattr(call, part))}"
    what = {"category": f"{call.category} calls", "tool": f"calls of {call.tool}"}.get(parts[-1], "calls")
    return Check(
        rule=rule.name if rule else OVERRIDE,
        key=key,
        kind=slot.kind,
        limit=limit,
        subject=f"{holder} {_shown(getattr(call, holder))}",
        window_seconds=slot.window_seconds,
        **({"fail": rule.fail} if rule else {}),
        shadow=slot.shadow,
        what=what,
    )


def _replaced(slot: Slot, overrides: Mapping[Kind, int]) -> bool:
    """Whether the tenant's own settings of the tool say more than the rules of a slot."""
    if slot.per is not Per.TENANT_TOOL or slot.shadow or slot.kind not in overrides:
        return False
    return slot.kind is not Kind.WINDOW or slot.window_seconds == _OVERRIDE_WINDOW_SECONDS


def _by_kind(check: Check) -> int:
    return _ORDER[check.kind]


def _quoted(name: str) -> str:
    """Without what has a meaning in keys, whatever a caller is called."""
    return quote(name, safe="", errors="surrogatepass")


def _shown(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 3]}..."
