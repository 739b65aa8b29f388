"""Who calls. Until credentials exist every caller is `anonymous` in tenant `default`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Tenant, principal (whose credential it is) and user (for whom the call is made; the principal if not named)."""

    tenant: str
    principal: str
    user: str

    def acting_for(self, user: str) -> "Caller":
        """The same credential, acting for `user`; empty means itself."""
        return Caller(self.tenant, self.principal, user) if user and user != self.user else self

    def shares_with(self, other: "Caller") -> bool:
        """Whether what belongs to `other` belongs to this caller too: same tenant, same principal."""
        return self.tenant == other.tenant and self.principal == other.principal


ANONYMOUS = Caller(tenant="default", principal="anonymous", user="anonymous")


def resolve() -> Caller:
    """The caller of an rpc. Mode `none`: everybody is the same one."""
    return ANONYMOUS
