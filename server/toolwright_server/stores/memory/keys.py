"""API keys in memory: gone with the process."""

from collections.abc import Sequence
from dataclasses import replace

from toolwright_server.identity import Caller
from toolwright_server.identity.keys import ApiKey


class MemoryKeyStore:
    """A KeyStore in a dict."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    async def add(self, key: ApiKey, by: Caller) -> None:
        del by
        self._keys[key.key_id] = key

    async def get(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)

    async def list(self, tenant: str | None, after: str, limit: int) -> Sequence[ApiKey]:
        found = sorted(
            (key for key in self._keys.values() if key.key_id > after and tenant in {None, key.tenant}),
            key=lambda key: key.key_id,
        )
        return found[:limit]

    async def revoke(self, key_id: str, time: float, by: Caller) -> ApiKey | None:
        del by
        key = self._keys.get(key_id)
        if key is not None and key.revoke_time is None:
            key = self._keys[key_id] = replace(key, revoke_time=time)
        return key

    async def revoked_since(self, time: float) -> Sequence[str]:
        return [key.key_id for key in self._keys.values() if key.revoke_time is not None and key.revoke_time >= time]
