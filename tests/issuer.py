"""An issuer of tokens: its keys, what it signs, and a real HTTP server from which its public keys are fetched."""

import base64
import hmac
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

SigningKey = RSAKey | ECKey | OKPKey
ISSUER = "https://issuer.example"
AUDIENCE = "toolwright"
NOW = 1_800_000_000


class Issuer:
    """Signs with the key that is named; `published` are the keys that it shows."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now
        self.keys: dict[str, SigningKey] = {}
        self.published: list[SigningKey] = []

    def make_key(self, key_id: str, kind: str = "EC") -> SigningKey:
        """A new key, published."""
        parameters: Any = {"kid": key_id}
        key: SigningKey
        if kind == "RSA":
            key = RSAKey.generate_key(2048, parameters)
        elif kind == "OKP":
            key = OKPKey.generate_key("Ed25519", parameters)
        else:
            key = ECKey.generate_key("P-256", parameters)
        self.keys[key_id] = key
        self.published.append(key)
        return key

    def jwks(self) -> bytes:
        """What it shows."""
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.published]}).encode()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Claims that are all right, for an hour, with some changed; None takes one away."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bob", "iat": self.now, "exp": self.now + 3600, **changed}
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, signer: str, signed_with: str = "ES256", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token, signed; `claims` as in `claims`."""
        protected: dict[str, Any] = {"alg": signed_with, "kid": signer, **(header or {})}
        registry = JWSRegistry(algorithms=[signed_with], strict_check_header=False)
        return jwt.encode(protected, self.claims(**claims), self.keys[signer], registry=registry)

    def unsigned(self, algorithm: str, key_id: str, **changed: Any) -> str:
        """A token that says it needs no signature."""
        return f"{encoded({'alg': algorithm, 'kid': key_id})}.{encoded(self.claims(**changed))}."

    def with_public_key_as_secret(self, key_id: str) -> str:
        """The classic forgery: HMAC, with the text of the public key as the secret."""
        signed = f"{encoded({'alg': 'HS256', 'kid': key_id})}.{encoded(self.claims())}"
        signature = hmac.digest(self.keys[key_id].as_pem(private=False), signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def encoded(part: Any) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


class Served:
    """Where the issuer's keys are fetched. `answer` is status and body; `asked` counts."""

    def __init__(self, url: str, answer: tuple[int, bytes]) -> None:
        self.url = url
        self.answer = answer
        self.asked = 0


@contextmanager
def served(content: bytes) -> Generator[Served]:
    """An HTTP server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            status, body = state.answer
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if 300 <= status < 400:
                self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that it has there
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Served(f"http://127.0.0.1:{server.server_address[1]}/keys", (200, content))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
