"""Which settings of addresses, authentication and encryption fit together. Each check returns what to change."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from toolwright_server.settings.address import Address

MODES: Final = ("none", "api-key", "jwt")


def trusted(settings: Any) -> Iterator[str]:
    """A sentence for each thing that cannot be right. `settings` is the Settings model."""
    yield from _modes(settings)
    yield from _tls(settings)
    yield from _reachable(settings)


def _modes(settings: Any) -> Iterator[str]:
    auth: tuple[str, ...] = settings.auth
    for mode in auth:
        if mode not in MODES:
            yield f"auth names {mode!r}: use none, api-key, jwt, or api-key,jwt"
    if not auth:
        yield "auth is empty: use none, api-key, jwt, or api-key,jwt"
    if "none" in auth and len(auth) > 1:
        yield "auth = none lets everybody in, with or without the others: name it alone, or leave it out"
    if "jwt" not in auth:
        return
    for name in ("jwt_issuer", "jwt_audience", "jwt_jwks"):
        if not getattr(settings, name):
            yield f"auth = jwt needs {name}"
    if settings.jwt_jwks.startswith("http://") and not settings.insecure and not _is_loopback_url(settings.jwt_jwks):
        yield f"jwt_jwks = {settings.jwt_jwks!r} is not encrypted, so that anybody on the way could sign: use https"
    if not settings.jwt_algorithms:
        yield "jwt_algorithms is empty: name at least one, for example RS256"


def _tls(settings: Any) -> Iterator[str]:
    if bool(settings.tls_certificate_file) != bool(settings.tls_key_file):
        yield "tls_certificate_file and tls_key_file belong together: give both, or none for no encryption"
    asked = settings.tls_client_certificates
    if asked == "none":
        for name in ("tls_client_ca_file", "tls_client_listen"):
            if getattr(settings, name):
                yield f"{name} is without effect: set tls_client_certificates to accept or require"
        return
    if not settings.tls_certificate_file:
        yield f"tls_client_certificates = {asked} needs tls_certificate_file and tls_key_file"
    if not settings.tls_client_ca_file:
        yield f"tls_client_certificates = {asked} needs tls_client_ca_file, the authorities that sign them"
    if asked == "accept" and not settings.tls_client_listen:
        yield "tls_client_certificates = accept needs tls_client_listen, a second address for callers that have one"
    if asked == "require" and settings.tls_client_listen:
        yield "tls_client_listen is for tls_client_certificates = accept: with require, `listen` asks for them"


def _reachable(settings: Any) -> Iterator[str]:
    """Whoever can reach an address from elsewhere must prove who it is, and nobody must be able to listen."""
    if settings.insecure:
        return
    here = "use 127.0.0.1, ::1 or unix:/path, or set insecure = true if the network around it is trusted"
    for name in ("listen", "tls_client_listen"):
        value = getattr(settings, name)
        if not value or Address.parse(value).is_loopback:
            continue
        missing: list[str] = []
        if settings.auth == ("none",):
            missing.append("nobody has to prove who it is (set auth to api-key or jwt)")
        if not settings.tls_certificate_file:
            missing.append("nothing is encrypted (set tls_certificate_file and tls_key_file)")
        if missing:
            yield f"{name} = {value!r} can be reached from other machines, and {', and '.join(missing)}; {here}"
    value = settings.http_listen
    if value and not Address.parse(value).is_loopback:
        yield (
            f"http_listen = {value!r} can be reached from other machines, and metrics are neither encrypted nor "
            f"kept from anybody: {here}"
        )


def _is_loopback_url(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return Address(host, 0).is_loopback and bool(host)
    except ValueError:
        return False
