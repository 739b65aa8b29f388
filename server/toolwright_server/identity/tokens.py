"""Tokens (JWT) of an issuer that the operator trusts: what is checked, and which claim says what of the caller."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from joserfc import errors as jose
from joserfc import jwt
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, GuestProtocol, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from toolwright_server.identity.caller import Caller, Role
from toolwright_server.identity.names import ALL_TOOLS, ANY_USER, is_name, is_scope
from toolwright_server.identity.refusals import NotAuthentic, Why

SignerKey = RSAKey | ECKey | OKPKey

# Only those with a public half: a server that knows nothing but public keys cannot be talked into HMAC with one.
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
_TOKEN_LIMIT: Final = 12 * 1024
_LIST_LIMIT: Final = 100
_LAST_TIME: Final = 253_402_300_800


class Signers(Protocol):
    """The public keys of the issuer."""

    async def key(self, key_id: str | None) -> SignerKey | None:
        """The key of that id, or the only one when tokens name none. Raises UPSTREAM_UNAVAILABLE."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say. Claims are names, or paths such as `realm_access.roles`.

    An empty `tenant_claim` puts everybody into the tenant `default`; without a `role_claim` everybody is an agent;
    without a `scopes_claim` every tool may be called, with one only what it names.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
    leeway_seconds: float = 30.0
    tenant_claim: str = ""
    principal_claim: str = "sub"
    user_claim: str = "sub"
    role_claim: str = ""
    scopes_claim: str = ""
    acts_for_claim: str = ""
    default_tenant: str = "default"


class Tokens:
    """Proves tokens. `clock`: seconds since the epoch."""

    def __init__(self, rules: TokenRules, signers: Signers, clock: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._signers = signers
        self._clock = clock
        self._registry = _Registry(algorithms=rules.algorithms, strict_check_header=False)

    async def verify(self, token: str) -> tuple[Caller, float]:
        """The caller, and until when that holds, in seconds since the epoch. Raises NotAuthentic."""
        key_id = self._key_id(token)
        key = await self._signers.key(key_id)
        if key is None:
            raise NotAuthentic(Why.UNKNOWN_SIGNER, "no key of the issuer has the token's kid")
        claims = self._proven(token, key)
        self._check(claims)
        return self._caller(claims), _time(claims, "exp") + self._rules.leeway_seconds

    def _key_id(self, token: str) -> str | None:
        """The signer that the token names, before anything in it is believed."""
        if len(token) > _TOKEN_LIMIT:
            raise NotAuthentic(Why.MALFORMED, f"longer than {_TOKEN_LIMIT} characters")
        header: dict[str, Any] = {}

        def look(guest: GuestProtocol) -> Any:
            header.update(guest.headers())
            raise _Looked

        try:
            jwt.decode(token, look, registry=self._registry)
        except _Looked:
            pass
        except (jose.UnsupportedAlgorithmError, jose.MissingAlgorithmError):
            raise NotAuthentic(Why.ALGORITHM) from None
        except (jose.JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise NotAuthentic(Why.MALFORMED, "not a signed token") from None
        key_id = header.get("kid")
        return key_id if isinstance(key_id, str) else None

    def _proven(self, token: str, key: SignerKey) -> Mapping[str, Any]:
        try:
            return jwt.decode(token, key, registry=self._registry).claims
        except jose.BadSignatureError:
            raise NotAuthentic(Why.SIGNATURE) from None
        except (jose.UnsupportedAlgorithmError, jose.ConflictAlgorithmError, jose.UnsupportedKeyAlgorithmError):
            raise NotAuthentic(Why.ALGORITHM) from None
        except (jose.JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise NotAuthentic(Why.SIGNATURE, "the signature does not fit the key") from None

    def _check(self, claims: Mapping[str, Any]) -> None:
        rules, now, leeway = self._rules, self._clock(), self._rules.leeway_seconds
        if claims.get("iss") != rules.issuer:
            raise NotAuthentic(Why.ISSUER)
        audience = claims.get("aud")
        if audience != rules.audience and not (isinstance(audience, list) and rules.audience in audience):
            raise NotAuthentic(Why.AUDIENCE)
        if _time(claims, "exp") + leeway <= now:
            raise NotAuthentic(Why.EXPIRED_TOKEN)
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) - leeway > now:
                raise NotAuthentic(Why.CLAIMS, f"{name} lies in the future")

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        rules = self._rules
        return Caller(
            tenant=_name(claims, rules.tenant_claim) if rules.tenant_claim else rules.default_tenant,
            principal=_name(claims, rules.principal_claim),
            user=_name(claims, rules.user_claim),
            role=_role(_texts(claims, rules.role_claim)),
            acts_for=frozenset(_users(_texts(claims, rules.acts_for_claim))),
            scopes=_scopes(_texts(claims, rules.scopes_claim)) if rules.scopes_claim else ALL_TOOLS,
        )


class _Registry(JWSRegistry):
    """The algorithms that the operator allows, without a warning for `EdDSA`, the older name of Ed25519.

    Header parameters that nobody knows are ignored, unless the token calls them critical (RFC 7515, 4).
    """

    max_header_length = 4096

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in (self.allowed or ()):
            raise jose.UnsupportedAlgorithmError("not allowed")
        return self.algorithms[name]


class _Looked(Exception):
    """Ends the decoding once the header was read."""


def _time(claims: Mapping[str, Any], name: str) -> float:
    """Seconds since the epoch, before the year 10,000; NaN and infinities are no JSON, but Python reads them."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LAST_TIME:
        raise NotAuthentic(Why.CLAIMS, f"{name} is missing or no number")
    return value


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, or else what lies at the end of that path."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, dict):
            return None
        found = cast("dict[str, Any]", found).get(part)
    return found


def _name(claims: Mapping[str, Any], path: str) -> str:
    value = _claim(claims, path)
    if not is_name(value):
        raise NotAuthentic(Why.CLAIMS, f"{path} is missing or no name")
    return cast("str", value)


def _texts(claims: Mapping[str, Any], path: str) -> list[str]:
    """A list of texts, or one text whose words they are, as OAuth writes scopes; empty without such a claim."""
    value = _claim(claims, path) if path else None
    if value is None:
        return []
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list):
        raise NotAuthentic(Why.CLAIMS, f"{path} is neither text nor a list of texts")
    found = [text for text in cast("list[object]", value) if isinstance(text, str)]
    if len(found) > _LIST_LIMIT:
        raise NotAuthentic(Why.CLAIMS, f"{path} names more than {_LIST_LIMIT}")
    return found


def _role(found: list[str]) -> Role:
    """The highest role among the words; others belong to other programs."""
    return max((role for role in Role if role.value in found), key=list(Role).index, default=Role.AGENT)


def _users(found: list[str]) -> list[str]:
    return [user for user in found if user == ANY_USER or is_name(user)]


def _scopes(found: list[str]) -> tuple[str, ...]:
    """The words that can be scopes; others, such as `openid`, are no tool's name anyway."""
    return ALL_TOOLS if ALL_TOOLS[0] in found else tuple(scope for scope in found if is_scope(scope))
