"""What a token must say. Who signs it is in test_jwks.py."""

from typing import Any

import pytest

from tests.issuer import AUDIENCE, ISSUER, NOW, Issuer, encoded
from toolwright_server.identity import Caller, Role
from toolwright_server.identity.jwks import parsed
from toolwright_server.identity.refusals import NotAuthentic, Why
from toolwright_server.identity.tokens import ALGORITHMS, SignerKey, TokenRules, Tokens

pytestmark = pytest.mark.asyncio

issuer = Issuer()
issuer.make_key("rsa", "RSA")
issuer.make_key("ec")
issuer.make_key("ed", "OKP")


class Published:
    """The keys that the issuer shows now."""

    async def key(self, key_id: str | None) -> SignerKey | None:
        return parsed(issuer.jwks()).get(key_id)


def tokens(**rules: Any) -> Tokens:
    return Tokens(TokenRules(issuer=ISSUER, audience=AUDIENCE, **rules), Published(), clock=lambda: float(NOW))


async def refused(token: str, **rules: Any) -> Why:
    with pytest.raises(NotAuthentic) as caught:
        await tokens(**rules).verify(token)
    return caught.value.why


@pytest.mark.parametrize(
    ("key_id", "algorithm"),
    [("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256"), ("ed", "Ed25519"), ("rsa", "RS512")],
)
async def test_a_signed_token_tells_who_calls_and_until_when(key_id: str, algorithm: str) -> None:
    verified = await tokens(algorithms=ALGORITHMS).verify(issuer.token(key_id, algorithm))
    assert verified == (Caller("default", "bob", "bob"), NOW + 3600 + 30.0)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_the_older_name_of_ed25519_is_understood() -> None:
    signed = issuer.token("ed", "EdDSA")
    assert (await tokens().verify(signed))[0].user == "bob"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
async def test_a_token_without_a_signature_is_refused(algorithm: str) -> None:
    assert await refused(issuer.unsigned(algorithm, "ec")) is Why.ALGORITHM


async def test_an_hmac_with_the_public_key_is_refused() -> None:
    assert await refused(issuer.with_public_key_as_secret("rsa")) is Why.ALGORITHM


async def test_an_algorithm_that_the_operator_did_not_allow_is_refused() -> None:
    assert await refused(issuer.token("rsa", "RS256"), algorithms=("ES256",)) is Why.ALGORITHM


async def test_changed_claims_are_refused() -> None:
    header, _, signature = issuer.token("ec").split(".")
    assert await refused(f"{header}.{encoded(issuer.claims(sub='eve'))}.{signature}") is Why.SIGNATURE


async def test_the_signature_of_another_key_is_refused() -> None:
    stranger = Issuer()
    stranger.make_key("ec")
    assert await refused(stranger.token("ec")) is Why.SIGNATURE


async def test_a_key_that_the_token_brings_along_is_not_believed() -> None:
    stranger = Issuer()
    own = stranger.make_key("ec").as_dict(private=False)
    assert await refused(stranger.token("ec", header={"jwk": own, "jku": "https://evil.example"})) is Why.SIGNATURE


async def test_a_key_of_another_kind_is_refused() -> None:
    head, claims, signature = issuer.token("rsa", "RS256").split(".")
    assert head != encoded({"alg": "RS256", "kid": "ec", "typ": "JWT"})
    forged = f"{encoded({'alg': 'RS256', 'kid': 'ec', 'typ': 'JWT'})}.{claims}.{signature}"
    assert await refused(forged) is Why.SIGNATURE


async def test_an_unknown_signer_is_refused() -> None:
    stranger = Issuer()
    stranger.make_key("nobody")
    assert await refused(stranger.token("nobody")) is Why.UNKNOWN_SIGNER


@pytest.mark.parametrize(
    "token", ["", "a", "a.b.c", "....", "é.é.é", "a.b.c.d.e", "x" * 20_000, f"{encoded([1])}.{encoded({})}.AA"]
)
async def test_what_is_no_token_is_refused(token: str) -> None:
    assert await refused(token) in {Why.MALFORMED, Why.ALGORITHM}


async def test_an_unknown_critical_parameter_is_refused() -> None:
    _, claims, signature = issuer.token("ec").split(".")
    head = encoded({"alg": "ES256", "kid": "ec", "crit": ["new"], "new": 1})
    assert await refused(f"{head}.{claims}.{signature}") is Why.MALFORMED


async def test_an_unknown_parameter_that_is_not_critical_is_ignored() -> None:
    assert (await tokens().verify(issuer.token("ec", header={"nonce": "n", "x5t": "t"})))[0].user == "bob"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"iss": "https://issuer.example.evil"}, Why.ISSUER),
        ({"iss": [ISSUER]}, Why.ISSUER),
        ({"iss": None}, Why.ISSUER),
        ({"aud": "another"}, Why.AUDIENCE),
        ({"aud": ["another"]}, Why.AUDIENCE),
        ({"aud": AUDIENCE + "x"}, Why.AUDIENCE),
        ({"aud": {AUDIENCE: 1}}, Why.AUDIENCE),
        ({"aud": None}, Why.AUDIENCE),
        ({"exp": NOW - 31}, Why.EXPIRED_TOKEN),
        ({"exp": NOW - 30}, Why.EXPIRED_TOKEN),
        ({"exp": None}, Why.CLAIMS),
        ({"exp": "9999999999"}, Why.CLAIMS),
        ({"exp": True}, Why.CLAIMS),
        ({"exp": 10**400}, Why.CLAIMS),
        ({"exp": float("nan")}, Why.CLAIMS),
        ({"exp": float("inf")}, Why.CLAIMS),
        ({"nbf": NOW + 31}, Why.CLAIMS),
        ({"iat": NOW + 31}, Why.CLAIMS),
        ({"iat": "now"}, Why.CLAIMS),
        ({"sub": None}, Why.CLAIMS),
        ({"sub": ""}, Why.CLAIMS),
        ({"sub": 7}, Why.CLAIMS),
        ({"sub": "*"}, Why.CLAIMS),
        ({"sub": "bob\n"}, Why.CLAIMS),
    ],
)
async def test_claims_that_are_not_right_are_refused(changed: dict[str, Any], why: Why) -> None:
    assert await refused(issuer.token("ec", **changed)) is why


@pytest.mark.parametrize("changed", [{"exp": NOW - 29}, {"nbf": NOW + 30}, {"iat": NOW + 30}, {"aud": ["x", AUDIENCE]}])
async def test_clocks_may_differ_and_audiences_be_many(changed: dict[str, Any]) -> None:
    assert (await tokens().verify(issuer.token("ec", **changed)))[0].user == "bob"


RULES = {
    "tenant_claim": "https://example.org/tenant",
    "principal_claim": "azp",
    "user_claim": "email",
    "role_claim": "realm_access.roles",
    "scopes_claim": "scope",
    "acts_for_claim": "acts_for",
}
CLAIMS: dict[str, Any] = {
    "https://example.org/tenant": "acme",
    "azp": "planner",
    "email": "bob@example.org",
    "realm_access": {"roles": ["offline_access", "operator", "agent"]},
    "scope": "openid crm.* knowledge.search bad..scope",
    "acts_for": ["ann", "", "bob ", 3],
}


def described(changed: dict[str, Any]) -> str:
    """A token with all these claims, some changed."""
    return issuer.token("ec", **(CLAIMS | changed))


async def test_claims_say_tenant_principal_user_role_scopes_and_further_users() -> None:
    caller, _ = await tokens(**RULES).verify(described({}))
    assert caller == Caller(
        "acme",
        "planner",
        "bob@example.org",
        Role.OPERATOR,
        frozenset({"ann"}),
        ("openid", "crm.*", "knowledge.search"),
    )


async def test_a_token_without_the_tenant_that_it_should_name_is_refused() -> None:
    assert await refused(described({"https://example.org/tenant": None}), **RULES) is Why.CLAIMS


async def test_a_token_without_role_and_scopes_is_an_agents_that_may_call_nothing() -> None:
    token = described({"realm_access": None, "scope": None, "acts_for": None})
    caller, _ = await tokens(**RULES).verify(token)
    assert (caller.role, caller.scopes, caller.acts_for) == (Role.AGENT, (), frozenset())
    assert not caller.may_call("crm.contact.get")


@pytest.mark.parametrize("roles", [["Admin"], ["administrator"], "superadmin", ["admin-viewer"]])
async def test_a_word_that_only_looks_like_a_role_gives_none(roles: Any) -> None:
    caller, _ = await tokens(**RULES).verify(described({"realm_access": {"roles": roles}}))
    assert caller.role is Role.AGENT


@pytest.mark.parametrize("odd", [{"scope": 7}, {"scope": {"a": 1}}, {"acts_for": ["u"] * 101}, {"azp": ["planner"]}])
async def test_claims_of_another_form_are_refused(odd: dict[str, Any]) -> None:
    assert await refused(described(odd), **RULES) is Why.CLAIMS
