"""Who calls, for whom, and what it may: one frozen value that travels with every call."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity.names import ALL_TOOLS, ANY_USER, covers


class Role(StrEnum):
    """What a credential is for. Each may what those before it may, and sees more: its users', its tenant's, all."""

    AGENT = "agent"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may what `other` may."""
        return _RANK[self] >= _RANK[other]


_RANK = {Role.AGENT: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


@dataclass(frozen=True, slots=True)
class Caller:
    """Tenant, principal (whose credential it is) and user (for whom the call is made).

    `acts_for` are further users that the credential may name; `scopes` the tools that it may call: exact names, or
    prefixes that end in `.*` (`crm.*` is `crm.contact.get` and not `crmx.get`), or `*`.
    """

    tenant: str
    principal: str
    user: str
    role: Role = Role.AGENT
    acts_for: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = ALL_TOOLS

    def acting_for(self, user: str) -> "Caller":
        """The same credential, acting for `user`; empty means itself. Raises FORBIDDEN."""
        if not user or user == self.user:
            return self
        # Nobody is called `*`: as a user it would become a right to act for everybody.
        if user != ANY_USER and (user in self.acts_for or ANY_USER in self.acts_for):
            return replace(self, user=user, acts_for=self.acts_for | {self.user})
        raise ToolwrightError(
            Reason.FORBIDDEN, f"the credential may not act for user {user[:64]!r}", metadata={"outcome": "not_started"}
        )

    def may_call(self, tool: str) -> bool:
        """Whether the tool lies in the credential's scopes."""
        return self.scopes is ALL_TOOLS or _may_call(self.scopes, tool)

    def shares_with(self, other: "Caller") -> bool:
        """Whether what belongs to `other` may be seen by this caller."""
        return self.sees(other.tenant, other.user)

    def sees(self, tenant: str, user: str) -> bool:
        """Admins see all, operators their tenant, everybody else the users it is or may act for, in its tenant."""
        if self.role is Role.ADMIN:
            return True
        if tenant != self.tenant:
            return False
        return user == self.user or self.role is Role.OPERATOR or user in self.acts_for or ANY_USER in self.acts_for

    def require(self, role: Role) -> None:
        """Raise FORBIDDEN unless the caller has at least this role."""
        if not self.role.includes(role):
            raise ToolwrightError(
                Reason.FORBIDDEN, f"this needs the role {role.value}; the credential has {self.role.value}"
            )


@lru_cache(maxsize=4_096)
def _may_call(scopes: tuple[str, ...], tool: str) -> bool:
    return any(covers(scope, tool) for scope in scopes)


ANONYMOUS = Caller(
    tenant="default",
    principal="anonymous",
    user="anonymous",
    role=Role.ADMIN,
    acts_for=frozenset({ANY_USER}),
)
"""Mode `none`: whoever reaches the loopback address is the operator."""

UNIDENTIFIED = Caller(tenant="", principal="", user="", scopes=())
"""A call before its credentials were looked at, and when they proved nothing. Sees nothing and may do nothing."""
