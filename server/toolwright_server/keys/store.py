"""What the keys' registry needs kept: a Protocol of five verbs."""

from collections.abc import Sequence
from typing import Final, Protocol

from toolwright_server.identity import Caller
from toolwright_server.identity.keys import ApiKey

TOPIC: Final = "api_keys"
"""What servers listen for, to hear of revocations."""


class KeyStore(Protocol):
    """Keeps API keys. Each verb raises STORE_UNAVAILABLE when it cannot answer; `by` goes into the audit trail."""

    async def add(self, key: ApiKey, by: Caller) -> None:
        """Keep a new key; durable when it returns."""
        ...

    async def get(self, key_id: str) -> ApiKey | None:
        """One key, revoked and expired ones too."""
        ...

    async def list(self, tenant: str | None, after: str, limit: int) -> Sequence[ApiKey]:
        """At most `limit` keys with ids behind `after`, in their order; `tenant` None: of all tenants."""
        ...

    async def revoke(self, key_id: str, time: float, by: Caller) -> ApiKey | None:
        """Revoke a key unless it is revoked already; the key as it then is. None: there is no such key."""
        ...

    async def revoked_since(self, time: float) -> Sequence[str]:
        """The ids of the keys whose `revoke_time` is at or after `time`."""
        ...
