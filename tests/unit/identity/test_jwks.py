"""The issuer's keys, over real HTTP and from files: rotated, broken, absent, and asked for too often."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.issuer import AUDIENCE, ISSUER, NOW, Issuer, Served, served
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity.jwks import SignerKeys, Unreadable, file_reader, parsed, url_reader
from toolwright_server.identity.refusals import NotAuthentic, Why
from toolwright_server.identity.tokens import TokenRules, Tokens

pytestmark = pytest.mark.asyncio

DAY = 86_400.0


class Clock:
    """Seconds that pass when they are told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Issuer:
    made = Issuer()
    made.make_key("first")
    return made


@pytest.fixture
def web(issuer: Issuer) -> Generator[Served]:
    with served(issuer.jwks()) as state:
        yield state


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def signers(web: Served, clock: Clock) -> AsyncGenerator[SignerKeys]:
    yield SignerKeys(url_reader(web.url), refresh_seconds=300, cooldown_seconds=10, clock=clock)


def tokens(signers: SignerKeys) -> Tokens:
    return Tokens(TokenRules(issuer=ISSUER, audience=AUDIENCE), signers, clock=lambda: float(NOW))


async def why(signers: SignerKeys, token: str) -> Why:
    with pytest.raises(NotAuthentic) as caught:
        await tokens(signers).verify(token)
    return caught.value.why


async def test_keys_are_fetched_once(issuer: Issuer, web: Served, signers: SignerKeys) -> None:
    for _ in range(5):
        assert (await tokens(signers).verify(issuer.token("first")))[0].user == "bob"
    assert web.asked == 1


async def test_a_rotated_key_is_found_with_the_first_token_that_names_it(
    issuer: Issuer, web: Served, signers: SignerKeys, clock: Clock
) -> None:
    await signers.refresh()
    issuer.make_key("second")
    web.answer = (200, issuer.jwks())
    clock.now += 10
    together = await asyncio.gather(*(tokens(signers).verify(issuer.token("second")) for _ in range(20)))
    assert {caller.user for caller, _ in together} == {"bob"}
    assert web.asked == 2


async def test_a_key_that_is_gone_at_the_issuer_signs_no_more(
    issuer: Issuer, web: Served, signers: SignerKeys, clock: Clock
) -> None:
    changes: list[int] = []
    signers.on_change = lambda: changes.append(1)
    token = issuer.token("first")
    await tokens(signers).verify(token)
    issuer.make_key("second")
    issuer.published = [issuer.keys["second"]]
    web.answer = (200, issuer.jwks())
    assert await signers.refresh()
    clock.now += 5
    assert await why(signers, token) is Why.UNKNOWN_SIGNER
    assert len(changes) == 2


async def test_made_up_key_ids_do_not_make_the_server_ask_without_end(
    issuer: Issuer, web: Served, signers: SignerKeys, clock: Clock
) -> None:
    await signers.refresh()
    stranger = Issuer()
    for number in range(30):
        stranger.make_key(f"made-up-{number}")
        clock.now += 1
        assert await why(signers, stranger.token(f"made-up-{number}")) is Why.UNKNOWN_SIGNER
    assert web.asked <= 1 + 30 // 10


@pytest.mark.parametrize(
    "answer",
    [(500, b""), (404, b""), (302, b""), (200, b"<html>"), (200, b"{}"), (200, b'{"keys": []}'), (200, b'{"keys": 3}')],
)
async def test_nobody_can_tell_while_the_keys_cannot_be_read(
    issuer: Issuer, web: Served, signers: SignerKeys, answer: tuple[int, bytes]
) -> None:
    web.answer = answer
    with pytest.raises(ToolwrightError) as caught:
        await tokens(signers).verify(issuer.token("first"))
    assert caught.value.failure.reason is Reason.UPSTREAM_UNAVAILABLE
    assert caught.value.failure.metadata == {"outcome": "not_started"}
    assert caught.value.failure.retry_delay


async def test_an_answer_without_end_is_cut_off(issuer: Issuer, web: Served, signers: SignerKeys) -> None:
    web.answer = (200, issuer.jwks() + b" " * 2 * 1024**2)
    assert not await signers.refresh()


async def test_the_last_keys_are_good_for_a_day_while_the_issuer_is_away(
    issuer: Issuer, web: Served, signers: SignerKeys, clock: Clock
) -> None:
    await signers.refresh()
    web.answer = (500, b"")
    clock.now += DAY - 1
    assert not await signers.refresh()
    assert (await tokens(signers).verify(issuer.token("first")))[0].user == "bob"
    clock.now += 11
    with pytest.raises(ToolwrightError, match="cannot be read"):
        await tokens(signers).verify(issuer.token("first"))
    web.answer = (200, issuer.jwks())
    clock.now += 10
    assert (await tokens(signers).verify(issuer.token("first")))[0].user == "bob"


async def test_who_leaves_while_keys_are_read_does_not_disturb_the_others(issuer: Issuer, clock: Clock) -> None:
    began, go = asyncio.Event(), asyncio.Event()
    reads: list[int] = []

    async def read() -> bytes:
        reads.append(1)
        began.set()
        await go.wait()
        return issuer.jwks()

    signers = SignerKeys(read, refresh_seconds=300, clock=clock)
    leaving, staying = (asyncio.create_task(tokens(signers).verify(issuer.token("first"))) for _ in range(2))
    await asyncio.wait_for(began.wait(), 10)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    go.set()
    assert (await staying)[0].user == "bob"
    assert len(reads) == 1


async def test_a_file_of_keys_is_read_again(issuer: Issuer, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(issuer.jwks())
    signers = SignerKeys(file_reader(path), refresh_seconds=2, clock=clock)
    assert (await tokens(signers).verify(issuer.token("first")))[0].user == "bob"
    issuer.make_key("second")
    path.write_bytes(issuer.jwks())
    assert await signers.refresh()
    assert (await tokens(signers).verify(issuer.token("second")))[0].user == "bob"
    path.unlink()
    assert not await signers.refresh()
    assert (await tokens(signers).verify(issuer.token("first")))[0].user == "bob"


async def test_the_only_key_signs_tokens_that_name_none(issuer: Issuer) -> None:
    assert set(parsed(issuer.jwks())) == {"first", None}
    issuer.make_key("second")
    assert set(parsed(issuer.jwks())) == {"first", "second"}


@pytest.mark.filterwarnings("ignore:Key size should be")
async def test_keys_that_must_not_sign_are_left_out(issuer: Issuer) -> None:
    from joserfc.jwk import OctKey, RSAKey  # noqa: PLC0415 - for this test alone

    entries: list[Any] = json.loads(issuer.jwks())["keys"]
    entries += [
        OctKey.generate_key(256, {"kid": "symmetric"}).as_dict(private=True),
        RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False),
        {**entries[0], "kid": "for-encryption", "use": "enc"},
        {"kty": "new", "kid": "unknown-kind"},
        {**entries[0], "kid": "off-the-curve", "x": "AA"},
        "no key",
    ]
    assert set(parsed(json.dumps({"keys": entries}).encode())) == {"first", None}


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000])
async def test_what_is_no_key_set_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(Unreadable):
        parsed(content)
