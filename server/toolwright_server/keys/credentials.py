"""Puts together how callers prove who they are, as the settings say, and keeps it up to date while the server runs."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from toolwright_server.errors import SettingsError
from toolwright_server.freshness import Listen, deaf
from toolwright_server.identity import secret_files
from toolwright_server.identity.authenticator import Authenticator, CredentialAuthenticator, Everybody
from toolwright_server.identity.keys import KeyTexts
from toolwright_server.identity.refusals import Refusals
from toolwright_server.keys.freshness import Revocations, make_first_key
from toolwright_server.keys.registry import KeyRegistry
from toolwright_server.keys.store import TOPIC, KeyStore
from toolwright_server.settings import Settings

if TYPE_CHECKING:
    from toolwright_server.keys.issuer import Issuer


class Credentials:
    """`authenticator` tells who calls; `registry` is there while API keys are accepted.

    `count` is called with the reason for each call whose credentials prove nothing; `listen` tells of revocations.
    """

    def __init__(
        self, settings: Settings, store: KeyStore, count: Callable[[str], None], listen: Listen = deaf
    ) -> None:
        self.authenticator: Authenticator = Everybody()
        self.registry: KeyRegistry | None = None
        self._settings = settings
        self._store = store
        self._count = count
        self._listen = listen
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read secrets and keys; make them at the first start. Raises SettingsError or STORE_UNAVAILABLE."""
        if self._settings.auth == ("none",):
            return
        texts = await self._texts() if "api-key" in self._settings.auth else None
        issuer = _issuer(self._settings) if "jwt" in self._settings.auth else None
        proving = CredentialAuthenticator(
            Refusals(self._count),
            keys=None if texts is None else self._store,
            texts=texts,
            tokens=None if issuer is None else issuer.tokens,
        )
        self.authenticator = proving
        if texts is not None:
            self.registry = KeyRegistry(self._store, texts, proving.forget_key)
            freshness = Revocations(self._store, proving.forget_key, proving.forget_keys).freshness
            self._listen(TOPIC, freshness.wake)
            self._run(freshness.watch())
        if issuer is not None:
            issuer.signers.on_change = proving.forget_tokens
            # An issuer that is down now does not keep the server from starting.
            await issuer.signers.refresh()
            self._run(issuer.signers.watch())

    async def close(self) -> None:
        """Stop looking for changes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _texts(self) -> KeyTexts:
        path = self._settings.pepper_path
        if not path.exists() and await self._store.list(None, "", 1):
            raise SettingsError(
                f"there are API keys, but the pepper file {path} without which they do not open is missing: put it "
                "back, or set pepper_file to where it is"
            )
        texts = KeyTexts(await asyncio.to_thread(secret_files.pepper, path))
        await make_first_key(self._store, texts, self._settings.data_dir, time.time())
        return texts


def _issuer(settings: Settings) -> "Issuer":
    # 50 ms that servers without tokens need not wait for.
    from toolwright_server.keys.issuer import Issuer  # noqa: PLC0415

    return Issuer(settings)
