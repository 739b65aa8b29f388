"""The issuer's public keys (JWKS), from a file or a URL: kept, read again, left alone when they cannot be right.

Keys that are gone at the issuer are gone here with the next reading. While it cannot be read, the keys of the last
reading are good for another day.
"""

import asyncio
import base64
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from joserfc import jwk
from joserfc.errors import JoseError

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity.tokens import SignerKey

_logger = logging.getLogger(__name__)
_SIZE_LIMIT: Final = 1024**2
_FETCH_SECONDS: Final = 5.0
_STALE_SECONDS: Final = 86_400.0
_RETRY_SECONDS: Final = 5.0
_OK: Final = 200
_RSA_BITS: Final = 2048
_KINDS: Final = (jwk.RSAKey, jwk.ECKey, jwk.OKPKey)

Read = Callable[[], Awaitable[bytes]]


class Unreadable(Exception):
    """The keys cannot be read now; the text says why."""


class SignerKeys:
    """The Signers of one issuer. `on_change` is called when a reading brought other keys than the one before.

    They are read every `refresh_seconds`, and when a token names an unknown one, but then at most every
    `cooldown_seconds`: whoever makes ids up cannot make this server ask the issuer without end.
    """

    def __init__(
        self,
        read: Read,
        *,
        refresh_seconds: float,
        cooldown_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_change: Callable[[], None] = _nothing
        self._read = read
        self._refresh_seconds = refresh_seconds
        self._cooldown = cooldown_seconds
        self._clock = clock
        self._content = b""
        self._keys: Mapping[str | None, SignerKey] = {}
        self._read_time: float | None = None
        self._tried = float("-inf")
        self._reading: asyncio.Task[bool] | None = None

    async def key(self, key_id: str | None) -> SignerKey | None:
        found = self._keys.get(key_id) if self._fresh else None
        if found is None and (self._reading is not None or self._clock() - self._tried >= self._cooldown):
            await self.refresh()
            found = self._keys.get(key_id)
        if not self._fresh:
            raise ToolwrightError(
                Reason.UPSTREAM_UNAVAILABLE,
                "the keys of the token's issuer cannot be read, so that nobody can tell whether it is valid",
                metadata={"outcome": "not_started"},
                retry_delay=_RETRY_SECONDS,
            )
        return found

    async def refresh(self) -> bool:
        """Read the keys, or wait for who reads them already; whether that worked. If not, the old ones stay."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._refreshed())
        # Whoever waits may leave: others wait as well.
        return await asyncio.shield(self._reading)

    async def _refreshed(self) -> bool:
        self._tried = self._clock()
        try:
            content = await self._read()
            if content != self._content:
                self._keys, self._content = parsed(content), content
                _logger.info("tokens may be signed by %d keys", len({id(key) for key in self._keys.values()}))
                self.on_change()
            self._read_time = self._clock()
        except Unreadable as error:
            _logger.warning("the keys of the tokens' issuer cannot be read: %s", error)
            return False
        finally:
            self._reading = None
        return True

    async def watch(self) -> None:
        """Read them again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._refresh_seconds)
            try:
                await self.refresh()
            except Exception:
                # A defect here must not make old keys good for ever.
                _logger.exception("the keys of the tokens' issuer could not be read")

    @property
    def _fresh(self) -> bool:
        return self._read_time is not None and self._clock() - self._read_time < _STALE_SECONDS


def _nothing() -> None:
    """Nobody wants to hear of changes."""


def file_reader(path: Path) -> Read:
    """Reads a file."""

    async def read() -> bytes:
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from None

    return read


def url_reader(url: str) -> Read:
    """Fetches a URL, trusting what the system trusts; follows no redirect, and reads 1 MiB at most."""
    import httpx2  # noqa: PLC0415 - 60 ms that servers without tokens need not wait for

    context = ssl.create_default_context()

    async def read() -> bytes:
        try:
            async with (
                asyncio.timeout(_FETCH_SECONDS),
                httpx2.AsyncClient(verify=context, timeout=_FETCH_SECONDS) as client,
                client.stream("GET", url, headers={"accept": "application/json"}) as answer,
            ):
                if answer.status_code != _OK:
                    raise Unreadable(f"{url} answers {answer.status_code}")
                content = b""
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > _SIZE_LIMIT:
                        raise Unreadable(f"{url} sends more than {_SIZE_LIMIT} bytes")
                return content
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise Unreadable(f"{url}: {type(error).__name__}") from None

    return read


def parsed(content: bytes) -> Mapping[str | None, SignerKey]:
    """The keys by id; with one key alone it is also the one for tokens that name none. Raises Unreadable.

    Symmetric keys, keys for encryption, weak ones and kinds that are not known are left out.
    """
    try:
        document: Any = json.loads(content)
        entries = document["keys"]
        found = [key for entry in entries if (key := _key(entry)) is not None]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Unreadable("this is no JSON Web Key Set") from None
    if not found:
        raise Unreadable("it holds no key that could sign tokens")
    keys: dict[str | None, SignerKey] = {key.kid: key for key in found if key.kid is not None}
    if len(found) == 1:
        keys[None] = found[0]
    return keys


def _key(entry: Any) -> SignerKey | None:
    if not isinstance(entry, dict) or cast("dict[str, Any]", entry).get("use", "sig") != "sig":
        return None
    described = cast("dict[str, Any]", entry)
    try:
        if described["kty"] == "RSA" and _bits(described["n"]) < _RSA_BITS:
            return None
        key = jwk.import_key(described)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, _KINDS) else None


def _bits(number: str) -> int:
    """The length of a base64url number."""
    return int.from_bytes(base64.urlsafe_b64decode(number + "==")).bit_length()
