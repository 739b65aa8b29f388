"""Revocations that another server made, and the first key of a new one."""

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from toolwright_server.errors import Reason, SettingsError, ToolwrightError
from toolwright_server.identity import ANONYMOUS, Role, secret_files
from toolwright_server.identity.keys import KeyTexts
from toolwright_server.keys.credentials import Credentials
from toolwright_server.keys.freshness import Revocations, make_first_key
from toolwright_server.keys.registry import KeyRegistry, KeyRequest
from toolwright_server.settings import load_settings
from toolwright_server.stores.memory.keys import MemoryKeyStore

pytestmark = pytest.mark.asyncio

TEXTS = KeyTexts(b"p" * 32)


class Shaky(MemoryKeyStore):
    """Does not answer while it is away."""

    away = False

    async def revoked_since(self, time: float) -> Sequence[str]:
        if self.away:
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "away")
        return await super().revoked_since(time)


class Elsewhere:
    """A store, a registry on another server, and what this server was told to forget."""

    def __init__(self) -> None:
        self.now = 10_000.0
        self.store = Shaky()
        self.registry = KeyRegistry(self.store, TEXTS, lambda _: None, lambda: self.now)
        self.forgotten: list[str] = []
        self.revocations = Revocations(
            self.store, self.forgotten.append, lambda: self.forgotten.append("all"), lambda: self.now
        )

    async def revoked(self) -> str:
        key, _ = await self.registry.create(KeyRequest(user="bob"), ANONYMOUS)
        await self.registry.revoke(key.key_id, ANONYMOUS)
        return key.key_id


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


async def test_a_key_that_was_revoked_elsewhere_is_forgotten_once(elsewhere: Elsewhere) -> None:
    first = await elsewhere.revoked()
    for _ in range(3):
        await elsewhere.revocations.freshness.look()
        elsewhere.now += 2
    assert elsewhere.forgotten == [first]
    second = await elsewhere.revoked()
    await elsewhere.revocations.freshness.look()
    assert elsewhere.forgotten == [first, second]


async def test_a_clock_that_is_behind_hides_no_revocation(elsewhere: Elsewhere) -> None:
    await elsewhere.revocations.freshness.look()
    elsewhere.now -= 60
    key = await elsewhere.revoked()
    elsewhere.now += 62
    await elsewhere.revocations.freshness.look()
    assert elsewhere.forgotten == [key]


async def test_without_an_answer_for_a_minute_no_key_is_believed_from_memory(elsewhere: Elsewhere) -> None:
    elsewhere.store.away = True
    elsewhere.now += 60
    await elsewhere.revocations.freshness.look()
    assert elsewhere.forgotten == []
    elsewhere.now += 1
    await elsewhere.revocations.freshness.look()
    assert elsewhere.forgotten == ["all"]
    elsewhere.store.away = False
    await elsewhere.revocations.freshness.look()
    assert elsewhere.forgotten == ["all"]


async def test_the_first_key_is_an_admins_in_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    store = MemoryKeyStore()
    path = tmp_path / "admin.key"
    assert await make_first_key(store, TEXTS, tmp_path, 5.0) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text().strip()
    key = await store.get(TEXTS.key_id(text) or "")
    assert key is not None
    assert TEXTS.opens(key, text)
    assert (key.tenant, key.role, key.scopes) == ("default", Role.ADMIN, ("*",))


async def test_no_first_key_is_made_where_there_is_one(tmp_path: Path) -> None:
    store = MemoryKeyStore()
    await make_first_key(store, TEXTS, tmp_path, 5.0)
    (tmp_path / "admin.key").unlink()
    assert await make_first_key(store, TEXTS, tmp_path, 5.0) is None
    assert not (tmp_path / "admin.key").exists()


async def test_keys_without_their_pepper_are_refused_at_start(tmp_path: Path) -> None:
    store = MemoryKeyStore()
    settings = load_settings(None, {"auth": "api-key", "data_dir": tmp_path})
    first = Credentials(settings, store, lambda _: None)
    await first.start()
    await first.close()
    pepper = secret_files.read(tmp_path / "pepper")
    (tmp_path / "pepper").unlink()
    with pytest.raises(SettingsError, match=r"pepper file .* is missing: put it back"):
        await Credentials(settings, store, lambda _: None).start()
    assert not (tmp_path / "pepper").exists()
    secret_files.write(tmp_path / "pepper", pepper)
    again = Credentials(settings, store, lambda _: None)
    await again.start()
    await again.close()
    assert again.registry is not None
