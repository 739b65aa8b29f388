"""Which calls ask the same: the key under which an answer is kept and calls are joined. Pure."""

from typing import Final, NamedTuple

from toolwright_server.catalog.model import Tool
from toolwright_server.execution import canonical
from toolwright_server.execution.intake import given
from toolwright_server.execution.model import Invocation

# No user has this name: users' names hold no control characters.
_EVERYBODY: Final = "\0"


class Key(NamedTuple):
    """`digest` covers tool, version, user and arguments as the tool is given them: a tenant may complete them."""

    tenant: str
    # Or everybody, where the tool shares its answers in the tenant.
    principal: str
    digest: bytes


def key_of(invocation: Invocation, tool: Tool) -> Key:
    """The key of a call of a tool that has a cache policy."""
    caller, policy = invocation.caller, tool.cache
    assert policy is not None, "the tool shares no answers"
    principal, user = caller.principal, caller.user
    if policy.scope == "tenant":
        principal = user = _EVERYBODY
    return Key(caller.tenant, principal, canonical.digest(tool.name, tool.version, user, given(invocation, tool)))
