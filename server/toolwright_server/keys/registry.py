"""Makes, lists and revokes API keys: who may do which. Knows neither gRPC nor where keys are kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.identity import ANY_USER, Caller, Role
from toolwright_server.identity.keys import ApiKey, KeyTexts, is_key_id
from toolwright_server.identity.names import ALL_TOOLS, NAME_LIMIT, covers, is_name, is_scope
from toolwright_server.keys.store import KeyStore

LIST_LIMIT = 100
LABEL_LIMIT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A key that is asked for. Empty texts and sequences mean what CreateApiKeyRequest says; seconds to live."""

    user: str
    tenant: str = ""
    principal: str = ""
    role: Role = Role.AGENT
    acts_for: Sequence[str] = ()
    scopes: Sequence[str] = ()
    label: str = ""
    lives: float | None = None


class KeyRegistry:
    """See the module. `on_revoked` is called with the id, before the revocation is answered.

    `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        store: KeyStore,
        texts: KeyTexts,
        on_revoked: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._texts = texts
        self._on_revoked = on_revoked
        self._clock = clock

    async def create(self, request: KeyRequest, by: Caller) -> tuple[ApiKey, str]:
        """The key that was made, and its text. Raises FORBIDDEN for more than `by` has, and INVALID_ARGUMENTS."""
        by.require(Role.OPERATOR)
        tenant = request.tenant or by.tenant
        scopes = tuple(dict.fromkeys(request.scopes)) or ALL_TOOLS
        _check(request, tenant, scopes)
        _check_within(request.role, tenant, scopes, by)
        now = self._clock()
        key_id, text, kept = self._texts.make()
        key = ApiKey(
            key_id=key_id,
            tenant=tenant,
            principal=request.principal or request.user,
            user=request.user,
            role=request.role,
            acts_for=frozenset(request.acts_for),
            scopes=scopes,
            secret_hash=kept,
            create_time=now,
            expire_time=None if request.lives is None else now + request.lives,
            label=request.label,
        )
        await self._store.add(key, by)
        return key, text

    async def list(self, tenant: str, after: str, limit: int, by: Caller) -> Sequence[ApiKey]:
        """Keys behind the id `after`, by id, at most `limit`. Raises FORBIDDEN for another tenant than `by` sees."""
        by.require(Role.OPERATOR)
        if by.role is Role.ADMIN:
            return await self._store.list(tenant or None, after, limit)
        if tenant not in {"", by.tenant}:
            raise _forbidden(f"the credential sees keys of tenant {by.tenant!r} only")
        return await self._store.list(by.tenant, after, limit)

    async def revoke(self, key_id: str, by: Caller) -> ApiKey:
        """The key, which opens nothing any more on this server. Raises RESOURCE_NOT_FOUND and FORBIDDEN."""
        by.require(Role.OPERATOR)
        found = await self._store.get(key_id) if is_key_id(key_id) else None
        if found is None or (by.role is not Role.ADMIN and found.tenant != by.tenant):
            raise ToolwrightError(Reason.RESOURCE_NOT_FOUND, f"there is no API key {key_id[:64]!r}")
        if not by.role.includes(found.role):
            raise _forbidden(f"this needs the role {found.role.value}, which the key has")
        revoked = await self._store.revoke(key_id, self._clock(), by)
        self._on_revoked(key_id)
        return revoked or found


def _check(request: KeyRequest, tenant: str, scopes: Sequence[str]) -> None:
    for field, name in (("tenant_id", tenant), ("user_id", request.user), ("principal", request.principal or "-")):
        if not is_name(name):
            raise invalid(field, f"must be printable text of 1 to {NAME_LIMIT} characters, and not *")
    _check_all("acts_for", request.acts_for, _is_user, "must be a user, or * for every user of the tenant")
    _check_all("scopes", scopes, is_scope, "must be a tool's name, a prefix that ends in .*, or *")
    if len(request.label) > LABEL_LIMIT or not request.label.isprintable():
        raise invalid("label", f"must be printable text of at most {LABEL_LIMIT} characters")


def _check_all(field: str, texts: Sequence[str], right: Callable[[str], bool], what: str) -> None:
    if len(texts) > LIST_LIMIT:
        raise invalid(field, f"names {len(texts)}; at most {LIST_LIMIT} are accepted")
    for number, text in enumerate(texts):
        if not right(text):
            raise invalid(f"{field}[{number}]", what)


def _is_user(text: str) -> bool:
    return text == ANY_USER or is_name(text)


def _check_within(role: Role, tenant: str, scopes: Sequence[str], by: Caller) -> None:
    """Nobody gives more than it has."""
    if not by.role.includes(role):
        raise _forbidden(f"a credential of role {by.role.value} makes no key of role {role.value}")
    if by.role is not Role.ADMIN and tenant != by.tenant:
        raise _forbidden(f"the credential makes keys of tenant {by.tenant!r} only")
    for scope in scopes:
        if not any(covers(own, scope) for own in by.scopes):
            raise _forbidden(f"the credential does not reach {scope!r} itself")


def _forbidden(message: str) -> ToolwrightError:
    return ToolwrightError(Reason.FORBIDDEN, message, metadata={"outcome": "not_started"})
