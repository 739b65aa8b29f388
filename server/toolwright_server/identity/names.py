"""What tenants, principals, users and tool scopes may be called. One rule for keys, tokens and requests."""

import re
from typing import Final

ANY_USER: Final = "*"
"""Among those whom a credential acts for: every user of the tenant. Never the name of a user."""
ALL_TOOLS: Final = ("*",)
"""The scopes of a credential that may call every tool."""
NAME_LIMIT: Final = 128
_SCOPE = re.compile(r"\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?")


def is_name(text: object) -> bool:
    """Whether `text` can name a tenant, a principal or a user: printable, 1 to 128 characters, not `*`."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= NAME_LIMIT
        and text.isprintable()
        and text == text.strip()
        and text != ANY_USER
    )


def is_scope(text: object) -> bool:
    """Whether `text` is a tool's name, a prefix that ends in `.*`, or `*`."""
    return isinstance(text, str) and len(text) <= NAME_LIMIT and _SCOPE.fullmatch(text) is not None


def covers(scope: str, other: str) -> bool:
    """Whether everything in `other`, a tool's name or a scope, lies in `scope`: `crm.*` covers no `crmx.get`."""
    return scope in {"*", other} or (scope.endswith(".*") and other.startswith(scope[:-1]))
