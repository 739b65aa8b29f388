"""Puts together how callers prove who they are, as the settings say, and keeps it up to date while the server runs."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from toolwright_server.errors import SettingsError
from toolwright_server.freshness import Listen, deaf
from toolwright_server.identity import jwks, secret_files
from toolwright_server.identity.authenticator import Authenticator, CredentialAuthenticator, Everybody
from toolwright_server.identity.jwks import SignerKeys
from toolwright_server.identity.keys import KeyTexts
from toolwright_server.identity.refusals import Refusals
from toolwright_server.identity.tokens import TokenRules, Tokens
from toolwright_server.keys.freshness import Revocations, make_first_key
from toolwright_server.keys.registry import KeyRegistry
from toolwright_server.keys.store import TOPIC, KeyStore
from toolwright_server.settings import Settings

# A file of keys is on this machine: reading it costs nothing.
_FILE_SECONDS: Final = 2.0


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
        signers = self._signers() if "jwt" in self._settings.auth else None
        proving = CredentialAuthenticator(
            Refusals(self._count),
            keys=None if texts is None else self._store,
            texts=texts,
            tokens=None if signers is None else Tokens(_rules(self._settings), signers),
        )
        self.authenticator = proving
        if texts is not None:
            self.registry = KeyRegistry(self._store, texts, proving.forget_key)
            freshness = Revocations(self._store, proving.forget_key, proving.forget_keys).freshness
            self._listen(TOPIC, freshness.wake)
            self._run(freshness.watch())
        if signers is not None:
            signers.on_change = proving.forget_tokens
            # An issuer that is down now does not keep the server from starting.
            await signers.refresh()
            self._run(signers.watch())

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

    def _signers(self) -> SignerKeys:
        where = self._settings.jwt_jwks
        if where.startswith(("https://", "http://")):
            return SignerKeys(jwks.url_reader(where), refresh_seconds=self._settings.jwt_jwks_refresh_seconds)
        return SignerKeys(jwks.file_reader(Path(where).expanduser()), refresh_seconds=_FILE_SECONDS)


def _rules(settings: Settings) -> TokenRules:
    return TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms,
        leeway_seconds=settings.jwt_leeway_seconds,
        tenant_claim=settings.jwt_tenant_claim,
        principal_claim=settings.jwt_principal_claim,
        user_claim=settings.jwt_user_claim,
        role_claim=settings.jwt_role_claim,
        scopes_claim=settings.jwt_scopes_claim,
        acts_for_claim=settings.jwt_acts_for_claim,
    )
