"""An address to listen on or to call: `host:port`, `[v6]:port` or `unix:/path`. Never resolves a name."""

import ipaddress
from dataclasses import dataclass
from typing import Self

_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port, or the path of a socket (then `host` is empty)."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address. Raises ValueError with what to write instead."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.strip("/"):
                raise ValueError(f"{text!r} names no socket: write unix:/path/to/socket")
            return cls("", 0, path)
        host, separator, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not separator or not bare or (":" in bare and bare == host):
            raise ValueError(f"{text!r} is no address: write host:port (127.0.0.1:50051, [::1]:50051) or unix:/path")
        if not (port.isascii() and port.isdecimal()) or int(port) > _HIGHEST_PORT:
            raise ValueError(f"{text!r} has no port from 0 to {_HIGHEST_PORT} behind its last colon")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if not self.host or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            # A name may lead anywhere, today or tomorrow.
            return False
