"""Who calls: credentials, what they prove, and what their holder may."""

from toolwright_server.identity.caller import ANONYMOUS, Caller, Role
from toolwright_server.identity.names import ANY_USER

__all__ = ["ANONYMOUS", "ANY_USER", "Caller", "Role"]
