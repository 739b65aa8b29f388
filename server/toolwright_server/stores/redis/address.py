"""Where the shared store is: reads the url and makes connections to it. What it says never shows the url: it may hold a
password, and so may the texts of foreign exceptions.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from toolwright_server.errors import SettingsError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

SCHEMES: Final = ("redis", "rediss", "unix")
DEFAULT_PORT: Final = 6379
# Options of a url that may be given; those of sockets, retries and encodings would change what the store relies on.
OPTIONS: Final = frozenset(
    {
        "db",
        "username",
        "password",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_check_hostname",
    }
)


@dataclass(frozen=True, slots=True)
class Address:
    """One server of the store, or the first of a cluster. `where` may be shown: it is without what opens it."""

    where: str
    _arguments: dict[str, Any] = field(repr=False)
    _class: "Callable[..., AbstractConnection]" = field(repr=False)

    @classmethod
    def parse(cls, url: str, name: str = "redis_url") -> "Address":
        """What the setting `name` says. Raises SettingsError: redis-py is missing, or the url cannot be right; never
        with the url in its text.
        """
        if any(importlib.util.find_spec(name) is None for name in ("redis", "hiredis")):
            raise SettingsError(
                f"{name} needs the package redis: install the extra, pip install 'toolwright-server[redis]'"
            )
        where = _checked(url, name)
        # Redis is loaded by those who use it.
        from redis.asyncio.connection import Connection, parse_url  # noqa: PLC0415

        try:
            arguments: dict[str, Any] = dict(parse_url(url))
        except ValueError:
            raise SettingsError(f"{name} has an option whose value cannot be right") from None
        made: Callable[..., AbstractConnection] = arguments.pop("connection_class", Connection)
        address = cls(where, arguments, made)
        try:
            address.connection(1.0)
        except (TypeError, ValueError, OSError):
            raise SettingsError(
                f"{name} has options that do not fit its scheme, or name files that are not there"
            ) from None
        return address

    def at(self, host: str, port: int) -> "Address":
        """Another server of the same cluster, reached with the same name, password and encryption."""
        return Address(f"{host}:{port}", {**self._arguments, "host": host, "port": port}, self._class)

    @property
    def host(self) -> str:
        """Empty for a socket in the file system."""
        return str(self._arguments.get("host", "" if "path" in self._arguments else "localhost"))

    def connection(self, connect_seconds: float) -> "AbstractConnection":
        """A connection that is not opened yet. It does nothing by itself: it repeats nothing and times nothing out."""
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        return self._class(
            **self._arguments,
            protocol=2,
            driver_info=None,
            socket_timeout=None,
            socket_connect_timeout=connect_seconds,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )


def _checked(url: str, setting: str) -> str:
    """The part of the url that may be shown. Raises SettingsError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(
            f"{setting} is no url: write redis://host:port, with what is special in it percent-encoded"
        ) from None
    if parts.scheme not in SCHEMES:
        raise SettingsError(f"{setting} must begin with redis://, rediss:// (encrypted) or unix:// (a socket)")
    for name in parse_qs(parts.query, keep_blank_values=True):
        if name not in OPTIONS:
            known = ", ".join(sorted(OPTIONS))
            raise SettingsError(f"{setting} has an option that is not known here; known are {known}")
    if parts.scheme == "unix":
        if not parts.path:
            raise SettingsError(f"{setting} names no socket: write unix:///path/to/socket")
        return f"unix:{parts.path}"
    if not host:
        raise SettingsError(f"{setting} names no host: write {parts.scheme}://host:port")
    if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise SettingsError(f"{setting} ends with a database that is no number: write {parts.scheme}://host:port/0")
    return f"{host}:{port or DEFAULT_PORT}"
