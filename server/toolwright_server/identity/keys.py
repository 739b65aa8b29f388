"""API keys: how their texts are made, read and compared. Pure: keeps nothing, asks nobody.

A text is `tw_<id>_<secret>`. The id names the row; of the secret only `HMAC-SHA256(pepper, text)` is kept. The secret
ends in a check that only the pepper can make: a made-up key is refused without a look into the store, so that neither
the answer nor its time says whether a key of that id exists, and a flood of guesses never reaches the database.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

from toolwright_server.identity.caller import Caller, Role
from toolwright_server.identity.names import ALL_TOOLS

PREFIX: Final = "tw_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 16
# 43 characters of 62 are 256 bits.
_RANDOM_LENGTH: Final = 43
_CHECK_LENGTH: Final = 8
_TEXT: Final = re.compile(rf"tw_([0-9a-z]{{{_ID_LENGTH}}})_([0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECK_LENGTH}}})")
_KEY_ID: Final = re.compile(rf"[0-9a-z]{{{_ID_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. Times are seconds since the epoch; None: never."""

    key_id: str
    tenant: str
    principal: str
    user: str
    role: Role
    acts_for: frozenset[str]
    scopes: tuple[str, ...]
    secret_hash: bytes
    create_time: float
    expire_time: float | None = None
    revoke_time: float | None = None
    label: str = ""

    def caller(self) -> Caller:
        """Who calls with this key."""
        scopes = ALL_TOOLS if ALL_TOOLS[0] in self.scopes else self.scopes
        return Caller(self.tenant, self.principal, self.user, self.role, self.acts_for, scopes)

    def expired(self, now: float) -> bool:
        """Whether it has ended by itself."""
        return self.expire_time is not None and self.expire_time <= now


class KeyTexts:
    """Makes and reads the texts of keys with one pepper, a secret of at least 32 bytes outside the database."""

    def __init__(self, pepper: bytes) -> None:
        # Two keys from one secret, so that a check says nothing about what is kept.
        self._checking = hmac.digest(pepper, b"toolwright api key check", hashlib.sha256)
        self._keeping = hmac.digest(pepper, b"toolwright api key", hashlib.sha256)

    def make(self) -> tuple[str, str, bytes]:
        """`(key id, text, what is kept of it)` of a new key."""
        key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
        text = f"{PREFIX}{key_id}_{random}{self._check(key_id, random)}"
        return key_id, text, self.kept(text)

    def key_id(self, text: str) -> str | None:
        """The id in the text of a key that was made with this pepper; None for any other text."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        key_id, secret = found.groups()
        check = self._check(key_id, secret[:_RANDOM_LENGTH])
        return key_id if hmac.compare_digest(check, secret[_RANDOM_LENGTH:]) else None

    def kept(self, text: str) -> bytes:
        """What is kept of a text, 32 bytes."""
        return hmac.digest(self._keeping, text.encode(), hashlib.sha256)

    def opens(self, key: ApiKey, text: str) -> bool:
        """Whether this is the text of the key. Takes the same time whatever the answer."""
        return hmac.compare_digest(key.secret_hash, self.kept(text))

    def _check(self, key_id: str, random: str) -> str:
        number = int.from_bytes(hmac.digest(self._checking, f"{key_id}_{random}".encode(), hashlib.sha256))
        letters: list[str] = []
        for _ in range(_CHECK_LENGTH):
            number, rest = divmod(number, len(_ALPHABET))
            letters.append(_ALPHABET[rest])
        return "".join(letters)


def is_key_id(text: str) -> bool:
    """Whether the text has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None
