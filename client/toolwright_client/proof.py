"""What proves who calls: an API key or a token, as the header that goes with every rpc. Never sent in the clear."""

import ipaddress
from collections.abc import Callable

Token = str | Callable[[], str]
"""The text, or what is asked for it before each rpc: a token that is renewed, a file that is read again."""


class Proof:
    """`header()` is what to send. Nothing of a key is in its representation, nor in what it raises."""

    def __init__(self, secret: Token) -> None:
        self._secret = secret
        if isinstance(secret, str):
            _checked(secret)

    def header(self) -> tuple[str, str]:
        """Name and value. Raises ValueError for a text that cannot be a key or a token."""
        secret = self._secret if isinstance(self._secret, str) else self._secret()
        return "authorization", f"Bearer {_checked(secret)}"


def proof_of(target: str, api_key: str | None, token: Token | None, *, encrypted: bool, insecure: bool) -> Proof | None:
    """The proof to send to `target`, if any. Raises ValueError for both, and where others could read it."""
    if api_key is not None and token is not None:
        message = "give an api_key or a token, not both"
        raise ValueError(message)
    secret = token if api_key is None else api_key
    if secret is None:
        return None
    if not (encrypted or insecure or is_local(target)):
        message = (
            f"the connection to {target} is not encrypted, so that others could read the API key or token: "
            "give tls=Tls(), or insecure=True if the network is trusted"
        )
        raise ValueError(message)
    return Proof(secret)


def is_local(target: str) -> bool:
    """Whether what is sent to the target stays on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        if target.startswith(scheme):
            target = target.removeprefix(scheme).rpartition("/")[2]
    if "," in target or "/" in target:
        return False
    host = target if target.count(":") > 1 and not target.startswith("[") else target.rpartition(":")[0] or target
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(secret: str) -> str:
    stripped = secret.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        message = "this is no API key and no token: it must be one word of printable ASCII"
        raise ValueError(message)
    return stripped
