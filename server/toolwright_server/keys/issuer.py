"""The issuer whose tokens are accepted, as the settings say: where its keys are, and what a token of it must say."""

from pathlib import Path
from typing import Final

from toolwright_server.identity import jwks
from toolwright_server.identity.jwks import SignerKeys
from toolwright_server.identity.tokens import TokenRules, Tokens
from toolwright_server.settings import Settings

# A file of keys is on this machine: reading it costs nothing.
_FILE_SECONDS: Final = 2.0


class Issuer:
    """`signers` are its keys, which the owner refreshes and watches; `tokens` proves what they signed."""

    def __init__(self, settings: Settings) -> None:
        self.signers = _signers(settings)
        self.tokens = Tokens(_rules(settings), self.signers)


def _signers(settings: Settings) -> SignerKeys:
    where = settings.jwt_jwks
    if where.startswith(("https://", "http://")):
        return SignerKeys(jwks.url_reader(where), refresh_seconds=settings.jwt_jwks_refresh_seconds)
    return SignerKeys(jwks.file_reader(Path(where).expanduser()), refresh_seconds=_FILE_SECONDS)


def _rules(settings: Settings) -> TokenRules:
    return TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms,
        leeway_seconds=settings.jwt_leeway_seconds,
        tenant_claim=settings.jwt_tenant_claim,
        principal_claim=settings.jwt_principal_claim,
        user_claim=settings.jwt_user_claim,
        role_claim=settings.jwt_role_claim,
        scopes_claim=settings.jwt_scopes_claim,
        acts_for_claim=settings.jwt_acts_for_claim,
    )
