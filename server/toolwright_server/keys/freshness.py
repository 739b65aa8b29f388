"""How a revocation on one server reaches the others, and how the first key comes into the world."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from toolwright_server.errors import ToolwrightError
from toolwright_server.identity import ANY_USER, Caller, Role, secret_files
from toolwright_server.identity.keys import ApiKey, KeyTexts
from toolwright_server.identity.names import ALL_TOOLS
from toolwright_server.keys.store import KeyStore

_logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
# Clocks of servers differ, and commits take time: what was revoked this long ago is looked at again.
_OVERLAP_SECONDS: Final = 300.0
# Without an answer for so long no key is believed from memory any more.
_BLIND_SECONDS: Final = 60.0

FIRST_KEY: Final = "admin.key"
_MAKER: Final = Caller("default", "toolwright", "toolwright", Role.ADMIN, frozenset({ANY_USER}))


class Revocations:
    """Asks the store now and then what was revoked, and has it forgotten. `clock`: seconds since the epoch."""

    def __init__(
        self,
        store: KeyStore,
        forget: Callable[[str], None],
        forget_all: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._forget = forget
        self._forget_all = forget_all
        self._clock = clock
        self._told: frozenset[str] = frozenset()
        self._answered = clock()

    async def look(self) -> None:
        """Look once. A store that does not answer is no error: after a minute every key is proven anew."""
        now = self._clock()
        try:
            revoked = frozenset(await self._store.revoked_since(now - _OVERLAP_SECONDS))
        except ToolwrightError:
            if now - self._answered > _BLIND_SECONDS:
                self._forget_all()
            return
        for key_id in revoked - self._told:
            self._forget(key_id)
        self._told, self._answered = revoked, now

    async def watch(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                # A defect here must not leave revoked keys alive for good.
                _logger.exception("revoked API keys could not be looked up")
                self._forget_all()
            await asyncio.sleep(interval_seconds)


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
