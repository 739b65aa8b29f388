"""Which settings of authentication and encryption are refused, and that the sentence says what to change."""

from typing import Any

import pytest

from toolwright_server.errors import SettingsError
from toolwright_server.settings import load_settings

JWT = {"auth": "jwt", "jwt_issuer": "https://i", "jwt_audience": "a", "jwt_jwks": "keys.json"}
TLS = {"tls_certificate_file": "c.pem", "tls_key_file": "k.pem"}
MUTUAL = {**TLS, "tls_client_certificates": "require", "tls_client_ca_file": "ca.pem"}
OPEN = {"listen": "0.0.0.0:50051"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"auth": "api-key"},
        {"auth": "api-key,jwt", **{name: value for name, value in JWT.items() if name != "auth"}},
        {**JWT, "jwt_jwks": "https://issuer.example/keys"},
        {**JWT, "jwt_jwks": "http://127.0.0.1:1/keys"},
        {**JWT, "jwt_jwks": "http://issuer.local/keys", "insecure": True},
        TLS,
        MUTUAL,
        {**MUTUAL, "tls_client_certificates": "accept", "tls_client_listen": "127.0.0.1:0"},
        {**OPEN, **TLS, "auth": "api-key"},
        {**OPEN, "insecure": True},
    ],
)
def test_what_fits_together_is_taken(given: dict[str, Any]) -> None:
    load_settings(None, given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"auth": "magic"}, "auth names 'magic': use none, api-key, jwt"),
        ({"auth": ""}, "auth is empty"),
        ({"auth": "none,api-key"}, "auth = none lets everybody in"),
        ({**JWT, "jwt_issuer": ""}, "auth = jwt needs jwt_issuer"),
        ({**JWT, "jwt_audience": ""}, "auth = jwt needs jwt_audience"),
        ({**JWT, "jwt_jwks": ""}, "auth = jwt needs jwt_jwks"),
        ({**JWT, "jwt_jwks": "http://issuer.local/keys"}, "is not encrypted.*use https"),
        ({**JWT, "jwt_jwks": "http://127.0.0.1.evil.example/keys"}, "is not encrypted"),
        ({**JWT, "jwt_algorithms": ""}, "jwt_algorithms is empty"),
        ({**JWT, "jwt_algorithms": "none"}, "jwt_algorithms"),
        ({**JWT, "jwt_algorithms": "HS256"}, "jwt_algorithms"),
        ({"tls_key_file": "k.pem"}, "belong together"),
        ({"tls_certificate_file": "c.pem"}, "belong together"),
        ({"tls_client_certificates": "require", "tls_client_ca_file": "ca.pem"}, "require needs tls_certificate_file"),
        ({**TLS, "tls_client_certificates": "require"}, "needs tls_client_ca_file"),
        ({**TLS, "tls_client_ca_file": "ca.pem"}, "tls_client_ca_file is without effect"),
        ({**MUTUAL, "tls_client_certificates": "accept"}, "accept needs tls_client_listen"),
        ({**MUTUAL, "tls_client_listen": "127.0.0.1:0"}, "tls_client_listen is for .*accept"),
        ({**MUTUAL, "tls_client_listen": "nowhere"}, "tls_client_listen.*no address"),
        (OPEN, "nobody has to prove who it is.*and nothing is encrypted.*insecure = true"),
        ({**OPEN, "auth": "api-key"}, "nothing is encrypted"),
        ({**OPEN, **TLS}, "nobody has to prove who it is"),
        ({"http_listen": "0.0.0.0:8080", **TLS, "auth": "api-key"}, "metrics are neither encrypted"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_settings(None, given)


def test_a_second_address_that_others_can_reach_asks_for_the_same() -> None:
    accept = {**MUTUAL, "tls_client_certificates": "accept", "tls_client_listen": "0.0.0.0:0"}
    with pytest.raises(SettingsError, match=r"tls_client_listen = .*nobody has to prove"):
        load_settings(None, accept)
