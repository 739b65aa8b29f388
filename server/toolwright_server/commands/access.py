"""How the commands reach a server and prove who calls: from the options of `toolwright`, or else from variables.

A key is never an option: everybody on the machine can read the command lines of others.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from toolwright_server.commands.asking import UsageError

_PREFIX: Final = "TOOLWRIGHT_"
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Access:
    """A credential, empty when there is none, and how the connection is encrypted."""

    secret: str = ""
    tls: bool = False
    authorities: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    insecure: bool = False

    def check(self, target: str, *, local: bool) -> None:
        """Raises UsageError where others could read the credential."""
        if self.secret and not (self.tls or local or self.insecure):
            raise UsageError(
                f"the connection to {target} is not encrypted, so that others could read the API key or token: set "
                "TOOLWRIGHT_TLS=true or TOOLWRIGHT_TLS_CA_FILE, or TOOLWRIGHT_INSECURE=true if the network is trusted"
            )

    def channel(self, target: str, options: list[tuple[str, int]]) -> grpc.Channel:
        """The channel, not yet connected."""
        if not self.tls:
            return grpc.insecure_channel(target, options=options)
        credentials = grpc.ssl_channel_credentials(self.authorities, self.key, self.certificate)
        return grpc.secure_channel(target, credentials, options=options)

    def proving(self, channel: grpc.Channel) -> grpc.Channel:
        """The same channel, whose calls prove who makes them."""
        return grpc.intercept_channel(channel, _Proof(self.secret)) if self.secret else channel


def access(environ: Mapping[str, str] = os.environ) -> Access:
    """What the variables say. Raises UsageError."""
    authorities = _file(environ, "TLS_CA_FILE")
    certificate, key = _file(environ, "CLIENT_CERTIFICATE_FILE"), _file(environ, "CLIENT_KEY_FILE")
    if (certificate is None) != (key is None):
        raise UsageError("TOOLWRIGHT_CLIENT_CERTIFICATE_FILE and TOOLWRIGHT_CLIENT_KEY_FILE belong together")
    return Access(
        secret=_secret(environ),
        tls=_truth(environ, "TLS") or authorities is not None or certificate is not None,
        authorities=authorities,
        certificate=certificate,
        key=key,
        insecure=_truth(environ, "INSECURE"),
    )


def prefer(**options: Path | bool | None) -> None:
    """Let options of the command win over the variables, for this process and what it starts."""
    for name, value in options.items():
        if value is True:
            os.environ[_PREFIX + name.upper()] = "true"
        elif value:
            os.environ[_PREFIX + name.upper()] = str(value)
    if options.get("api_key_file"):
        for name in ("API_KEY", "TOKEN", "TOKEN_FILE"):
            os.environ.pop(_PREFIX + name, None)


def _secret(environ: Mapping[str, str]) -> str:
    found = {
        name: environ[_PREFIX + name] if not name.endswith("_FILE") else (_file(environ, name) or b"").decode("latin-1")
        for name in ("API_KEY", "API_KEY_FILE", "TOKEN", "TOKEN_FILE")
        if environ.get(_PREFIX + name)
    }
    if len(found) > 1:
        raise UsageError(f"{' and '.join(_PREFIX + name for name in found)} are set: one of them is enough")
    for name, text in found.items():
        secret = text.strip()
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise UsageError(f"{_PREFIX}{name}: holds no API key and no token, which are one word of printable ASCII")
        return secret
    return ""


def _file(environ: Mapping[str, str], name: str) -> bytes | None:
    path = environ.get(_PREFIX + name)
    if not path:
        return None
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"{_PREFIX}{name}: {path} cannot be read: {error.strerror}") from None


def _truth(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(_PREFIX + name, "").strip().lower()
    if value not in _YES | _NO:
        raise UsageError(f"{_PREFIX}{name} = {value!r}: write true or false")
    return value in _YES


class _Proof(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the credential to each call."""

    def __init__(self, secret: str) -> None:
        self._header = ("authorization", f"Bearer {secret}")

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._proving(client_call_details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._proving(client_call_details), request)

    def _proving(self, details: Any) -> "_Details":
        metadata = (*(details.metadata or ()), self._header)
        return _Details(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class _Details(NamedTuple):
    """A call with its metadata, as gRPC's interceptors hand it on."""

    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str], ...]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any
