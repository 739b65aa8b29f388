"""What a tool may declare about sharing its answers. Never keeps one."""

from typing import Final

from toolwright_server.catalog.model import DeclarationError, Effect, Tool

_LONGEST_SECONDS: Final = 30 * 86_400.0


def check(tool: Tool, where: str) -> None:
    """Refuse, by name, a cache policy that cannot be right. Raises DeclarationError."""
    policy = tool.cache
    if policy is None:
        return
    if tool.effect is not Effect.READ_ONLY:
        raise DeclarationError(f"{where}: cache is for READ_ONLY tools; it is {tool.effect.name}")
    if not 0 <= policy.ttl_seconds <= _LONGEST_SECONDS:
        raise DeclarationError(f"{where}: cache.ttl_seconds {policy.ttl_seconds} must be 0 to 30 days")
    if policy.scope not in ("user", "tenant"):
        raise DeclarationError(f'{where}: cache.scope is "user" or "tenant", not {policy.scope!r}')
    if policy.scope == "tenant" and tool.has_secrets:
        raise DeclarationError(
            f'{where}: its schemas mark secrets, which others of the tenant must not get: cache.scope must be "user"'
        )
