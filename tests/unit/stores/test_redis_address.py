"""Which urls of the shared store are taken, how they are refused, and that nobody ever sees one."""

import asyncio
import contextlib
import importlib.util
import logging
import ssl
import traceback
from collections.abc import AsyncGenerator, Generator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import trustme

from tests.shared_limits import failing, opened
from tests.valkeys import Server, made_server
from toolwright_server.errors import SettingsError
from toolwright_server.limits.model import Fail
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.opening import open_limit_store
from toolwright_server.stores.redis.options import RedisLimitOptions

SECRET = "hunter2-and-more"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://localhost", "localhost:6379"),
        ("redis://127.0.0.1:7000/2", "127.0.0.1:7000"),
        ("redis://[::1]:7000", "::1:7000"),
        (f"redis://ann:{SECRET}@cache.example:7000/0", "cache.example:7000"),
        (f"rediss://:{SECRET}@cache.example", "cache.example:6379"),
        ("rediss://cache.example?ssl_check_hostname=false", "cache.example:6379"),
        ("unix:///run/valkey.sock?db=1", "unix:/run/valkey.sock"),
    ],
)
def test_an_address_is_shown_without_what_opens_it(url: str, where: str) -> None:
    address = Address.parse(url)
    assert address.where == where
    assert SECRET not in repr(address)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://:{SECRET}@cache", "must begin with redis://"),
        (f"cache:{SECRET}", "must begin with redis://"),
        (f"redis://:{SECRET}@", "names no host"),
        ("unix://", "names no socket"),
        (f"redis://:{SECRET}@cache:port", "is no url"),
        (f"redis://:{SECRET}@[::1", "is no url"),
        (f"redis://:{SECRET}@cache/mine", "database that is no number"),
        (f"redis://:{SECRET}@cache?socket_timeout=5", "option that is not known here"),
        (f"redis://:{SECRET}@cache?db={SECRET}", "option whose value cannot be right"),
        (f"redis://:{SECRET}@cache?ssl_ca_certs=x", "do not fit its scheme"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused_without_being_shown(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Address.parse(url)
    assert said in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without_redis(name: str) -> ModuleSpec | None:
        return None if name == "redis" else found(name)

    monkeypatch.setattr(importlib.util, "find_spec", without_redis)
    with pytest.raises(SettingsError, match=r"toolwright-server\[redis\]"):
        Address.parse("redis://localhost")


@pytest.fixture
def guarded() -> Generator[Server]:
    """A server that asks for a password."""
    yield from made_server(options=("--requirepass", SECRET), secret=SECRET)


@pytest.mark.asyncio
async def test_a_password_opens_the_store_and_is_never_shown(guarded: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with opened(guarded) as store:
            assert (await store.take(failing(Fail.CLOSED), "a")).refused is None
            guarded.kill()
            assert (await store.take(failing(Fail.CLOSED), "b")).unavailable
    assert SECRET not in caplog.text
    assert SECRET not in repr(RedisLimitOptions(guarded.url, "one", 10, 30))


@pytest.mark.asyncio
async def test_a_wrong_password_is_a_store_that_does_not_answer(
    guarded: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = guarded.url.replace(SECRET, "wrong-" + SECRET)
    with caplog.at_level(logging.DEBUG):
        store = await open_limit_store(RedisLimitOptions(url, "one", 10, 30), MemoryLimitStore())
        assert not store.is_up
        await store.close()
    assert "does not answer (authentication)" in caplog.text
    assert SECRET not in caplog.text


@pytest_asyncio.fixture
async def encrypted_port(guarded: Server, tmp_path: Path) -> AsyncGenerator[int]:
    """Where the guarded server is reached encrypted: what ends the encryption stands before it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    cast("Any", certificate).configure_cert(context)
    streams: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", guarded.port)
        for source, target in ((reader, there[1]), (there[0], writer)):
            streams.add(asyncio.create_task(copy(source, target)))

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in streams:
        task.cancel()
    await asyncio.gather(*streams, return_exceptions=True)


@pytest.mark.asyncio
async def test_an_encrypted_store_is_believed_by_its_certificate_only(encrypted_port: int, tmp_path: Path) -> None:
    url = f"rediss://:{SECRET}@127.0.0.1:{encrypted_port}"
    for options, is_up in (("", False), (f"?ssl_ca_certs={tmp_path / 'ca.pem'}", True)):
        store = await open_limit_store(RedisLimitOptions(url + options, "one", 5_000, 30), MemoryLimitStore())
        assert store.is_up is is_up
        if is_up:
            assert (await store.take(failing(Fail.CLOSED), "a")).refused is None
        await store.close()
