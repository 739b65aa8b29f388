"""Rules as an operator writes them: what is counted, for whom, how much by tier. Counts nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from toolwright_server.limits.model import Fail, Kind


class Tier(StrEnum):
    """What a tenant has paid for."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class Per(StrEnum):
    """Who shares a counter. Never more than a tenant: keys of one call lie in one slot of a cluster."""

    USER = "user"
    USER_CATEGORY = "user+category"
    USER_TOOL = "user+tool"
    TENANT = "tenant"
    TENANT_CATEGORY = "tenant+category"
    TENANT_TOOL = "tenant+tool"


@dataclass(frozen=True, slots=True)
class Slot:
    """Rules of one slot answer the same question: of those that hold for a call, the most specific one counts."""

    kind: Kind
    per: Per
    # 0 for all kinds but windows.
    window_seconds: float = 0.0
    # What is tried out does not push aside what holds.
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Where:
    """Which calls a rule is about; empty is any."""

    user: str = ""
    tenant: str = ""
    tool: str = ""
    category: str = ""

    @property
    def rank(self) -> tuple[bool, bool, bool, bool]:
        """The higher, the more specific: a user before a tenant before a tool before a category."""
        return bool(self.user), bool(self.tenant), bool(self.tool), bool(self.category)


@dataclass(frozen=True, slots=True)
class Rule:
    """How much fits into the counters of a slot, for the calls that it is about.

    `limits` by tier: None lets any number pass, and a tier that is absent is none of the rule's business.
    """

    name: str
    slot: Slot
    limits: Mapping[Tier, int | None]
    where: Where = Where()
    fail: Fail = Fail.LOCAL


@dataclass(frozen=True, slots=True)
class CostLimits:
    """What calls may cost, in micro-credits (a millionth of a credit each).

    `call_micros` one call, `task_micros` a whole tree of calls, `estimate_micros` what a call of a tool without a price
    counts for in agents and workflows. With `shadow` it is counted and reported, not enforced.
    """

    call_micros: int
    task_micros: int
    estimate_micros: int = 0
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """A whole configuration of limits. `tiers` of the tenants that are named; all others have the default tier."""

    rules: tuple[Rule, ...]
    costs: Mapping[Tier, CostLimits]
    default_tier: Tier = Tier.PRO
    tiers: Mapping[str, Tier] = field(default_factory=dict[str, Tier])

    def tier_of(self, tenant: str) -> Tier:
        """The tier that a tenant is in."""
        return self.tiers.get(tenant, self.default_tier)

    def over(self, below: "Rules") -> "Rules":
        """These rules before `below`: what has the same name, or answers the same question for the same calls, goes."""
        names = {rule.name for rule in self.rules}
        places = {(rule.slot, rule.where) for rule in self.rules}
        kept = (rule for rule in below.rules if rule.name not in names and (rule.slot, rule.where) not in places)
        return Rules((*self.rules, *kept), self.costs, self.default_tier, self.tiers)
