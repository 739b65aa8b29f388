"""How a revocation on one server reaches the others, and how the first key comes into the world."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from toolwright_server.freshness import Freshness
from toolwright_server.identity import ANY_USER, Caller, Role, secret_files
from toolwright_server.identity.keys import ApiKey, KeyTexts
from toolwright_server.identity.names import ALL_TOOLS
from toolwright_server.keys.store import KeyStore

_logger = logging.getLogger(__name__)

# Clocks of servers differ, and commits take time: what was revoked this long ago is looked at again.
_OVERLAP_SECONDS: Final = 300.0

FIRST_KEY: Final = "admin.key"
_MAKER: Final = Caller("default", "toolwright", "toolwright", Role.ADMIN, frozenset({ANY_USER}))


class Revocations:
    """Asks the store now and then, and when it is told, what was revoked, and has it forgotten. A store that does not
    answer is no error: after a minute every key is proven anew. `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        store: KeyStore,
        forget: Callable[[str], None],
        forget_all: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._forget = forget
        self._clock = clock
        self._told: frozenset[str] = frozenset()
        self.freshness = Freshness("revoked API keys", self._look, forget_all, clock)

    async def _look(self) -> None:
        revoked = frozenset(await self._store.revoked_since(self._clock() - _OVERLAP_SECONDS))
        for key_id in revoked - self._told:
            self._forget(key_id)
        self._told = revoked


async def make_first_key(store: KeyStore, texts: KeyTexts, data_dir: Path, now: float) -> Path | None:
    """The file with an admin's key, if there was no key at all: how a new server is administered for the first time.

    Two servers that start together on one new database may make one each. Raises SettingsError or STORE_UNAVAILABLE.
    """
    if await store.list(None, "", 1):
        return None
    key_id, text, kept = texts.make()
    path = data_dir / FIRST_KEY
    # The file first: a key that nobody knows could not be revoked by anybody either.
    await asyncio.to_thread(secret_files.write, path, text.encode() + b"\n")
    key = ApiKey(
        key_id=key_id,
        tenant=_MAKER.tenant,
        principal="admin",
        user="admin",
        role=Role.ADMIN,
        acts_for=frozenset({ANY_USER}),
        scopes=ALL_TOOLS,
        secret_hash=kept,
        create_time=now,
        label="made at the first start",
    )
    await store.add(key, _MAKER)
    _logger.warning(
        "there was no API key: one for an admin is in %s (key %s); make others with `toolwright keys create`",
        path,
        key_id,
    )
    return path
