"""Who makes a call, from its metadata: `authorization: Bearer <API key or token>`, or `x-api-key: <API key>`.

A credential that was seen before costs one look into a dict. Knows neither gRPC nor where keys are kept.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from toolwright_server.identity.caller import ANONYMOUS, Caller
from toolwright_server.identity.keys import PREFIX, ApiKey, KeyTexts
from toolwright_server.identity.refusals import NotAuthentic, Refusals, Why

Metadata = Sequence[tuple[str, str | bytes]]

NEVER: Final = float("inf")
_AUTHORIZATION: Final = "authorization"
_API_KEY: Final = "x-api-key"
_NAMES: Final = frozenset({_AUTHORIZATION, _API_KEY})
# Credentials that are remembered; an older half makes room.
_REMEMBERED: Final = 20_000


class Authenticator(Protocol):
    """Tells who calls."""

    def known(self, metadata: Metadata) -> Caller | None:
        """The caller, if its credentials were proven before and still hold. Never waits."""
        ...

    async def authenticate(self, metadata: Metadata, peer: str) -> Caller:
        """The caller. Raises UNAUTHENTICATED, or STORE_UNAVAILABLE or UPSTREAM_UNAVAILABLE when nobody can tell."""
        ...


class Everybody:
    """Mode `none`, and rpcs that are exempt: whoever calls is the same one, whatever credentials it sends."""

    def known(self, metadata: Metadata) -> Caller | None:
        del metadata
        return ANONYMOUS

    async def authenticate(self, metadata: Metadata, peer: str) -> Caller:
        del metadata, peer
        return ANONYMOUS


class Keys(Protocol):
    """Where API keys are looked up."""

    async def get(self, key_id: str) -> ApiKey | None:
        """The key as it is now. Raises STORE_UNAVAILABLE."""
        ...


class Tokens(Protocol):
    """Proves tokens."""

    async def verify(self, token: str) -> tuple[Caller, float]:
        """The caller, and until when that holds, in seconds since the epoch. Raises NotAuthentic."""
        ...


@dataclass(frozen=True, slots=True)
class _Proven:
    """Credentials that were proven. `until` is in seconds since the epoch; `key_id` is empty for a token."""

    caller: Caller
    until: float
    key_id: str


class CredentialAuthenticator:
    """Callers with API keys, tokens, or both. Used on the event loop only."""

    def __init__(
        self,
        refusals: Refusals,
        *,
        keys: Keys | None = None,
        texts: KeyTexts | None = None,
        tokens: Tokens | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keys are accepted with `keys` and `texts`, tokens with `tokens`. `clock`: seconds since the epoch."""
        self._refusals = refusals
        self._keys = keys
        self._texts = texts
        self._tokens = tokens
        self._clock = clock
        # By metadata entry as it came: a name and a value.
        self._proven: dict[tuple[str, str | bytes], _Proven] = {}
        # Grows when something is forgotten: what was read before may be outdated.
        self._forgotten = 0

    def known(self, metadata: Metadata) -> Caller | None:
        found: tuple[str, str | bytes] | None = None
        for entry in metadata:
            if entry[0] in _NAMES:
                if found is not None:
                    return None
                found = entry
        if found is None:
            return None
        proven = self._proven.get(found)
        return proven.caller if proven is not None and self._clock() < proven.until else None

    async def authenticate(self, metadata: Metadata, peer: str) -> Caller:
        try:
            entry, text = _credentials(metadata)
            while True:
                forgotten = self._forgotten
                proven = await self._prove(text, is_key=entry[0] == _API_KEY)
                if forgotten == self._forgotten:
                    self._remember(entry, proven)
                    return proven.caller
        except NotAuthentic as refused:
            raise self._refusals.refuse(refused, peer) from None

    def forget_key(self, key_id: str) -> None:
        """Prove it anew at its next call: it was revoked or changed."""
        self._forget(lambda proven: proven.key_id == key_id)

    def forget_keys(self) -> None:
        """Prove every key anew at its next call."""
        self._forget(lambda proven: bool(proven.key_id))

    def forget_tokens(self) -> None:
        """Prove every token anew at its next call: who may sign them has changed."""
        self._forget(lambda proven: not proven.key_id)

    def _forget(self, which: Callable[[_Proven], bool]) -> None:
        self._forgotten += 1
        for entry in [entry for entry, proven in self._proven.items() if which(proven)]:
            del self._proven[entry]

    async def _prove(self, text: str, *, is_key: bool) -> _Proven:
        if is_key or text.startswith(PREFIX):
            return await self._prove_key(text)
        if self._tokens is None:
            raise NotAuthentic(Why.MALFORMED, "not an API key, and tokens are not accepted")
        caller, until = await self._tokens.verify(text)
        return _Proven(caller, until, "")

    async def _prove_key(self, text: str) -> _Proven:
        if self._keys is None or self._texts is None:
            raise NotAuthentic(Why.MALFORMED, "API keys are not accepted")
        key_id = self._texts.key_id(text)
        if key_id is None:
            raise NotAuthentic(Why.UNKNOWN_KEY)
        key = await self._keys.get(key_id)
        if key is None or not self._texts.opens(key, text):
            raise NotAuthentic(Why.UNKNOWN_KEY, key_id)
        if key.revoke_time is not None:
            raise NotAuthentic(Why.REVOKED_KEY, key_id)
        if key.expired(self._clock()):
            raise NotAuthentic(Why.EXPIRED_KEY, key_id)
        return _Proven(key.caller(), NEVER if key.expire_time is None else key.expire_time, key_id)

    def _remember(self, entry: tuple[str, str | bytes], proven: _Proven) -> None:
        if len(self._proven) >= _REMEMBERED:
            for old in list(self._proven)[: _REMEMBERED // 2]:
                del self._proven[old]
        self._proven[entry] = proven


def _credentials(metadata: Metadata) -> tuple[tuple[str, str | bytes], str]:
    """The one entry that holds credentials, and what it holds. Raises NotAuthentic."""
    found = [entry for entry in metadata if entry[0] in _NAMES]
    if not found:
        raise NotAuthentic(Why.MISSING)
    if len(found) > 1:
        # Which one counts must not depend on the order in which proxies write headers.
        raise NotAuthentic(Why.AMBIGUOUS)
    name, value = found[0]
    if not isinstance(value, str):
        raise NotAuthentic(Why.MALFORMED)
    if name == _API_KEY:
        return found[0], value
    scheme, _, text = value.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise NotAuthentic(Why.MALFORMED, "authorization is not Bearer")
    return found[0], text.strip()
