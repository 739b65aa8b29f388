"""From metadata to a caller: what is remembered, for how long, and what is refused in the same words."""

import asyncio
import logging
from dataclasses import replace

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.identity import ANONYMOUS, Caller, Role
from toolwright_server.identity.authenticator import CredentialAuthenticator, Everybody, Metadata
from toolwright_server.identity.keys import ApiKey, KeyTexts
from toolwright_server.identity.refusals import NotAuthentic, Refusals, Why
from toolwright_server.stores.memory.keys import MemoryKeyStore

pytestmark = pytest.mark.asyncio

TEXTS = KeyTexts(b"p" * 32)


class Counted(MemoryKeyStore):
    """Counts look-ups; one may be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up = 0
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def get(self, key_id: str) -> ApiKey | None:
        self.looked_up += 1
        found = await super().get(key_id)
        self.asked.set()
        await self.go.wait()
        return found


class Desk:
    """An authenticator with its store, its clock and what it counted."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.counted: list[str] = []
        self.store = Counted()
        self.authenticator = CredentialAuthenticator(
            Refusals(self.counted.append, lambda: self.now), keys=self.store, texts=TEXTS, clock=lambda: self.now
        )

    async def key(self, **fields: object) -> tuple[ApiKey, str]:
        key_id, text, kept = TEXTS.make()
        made = ApiKey(key_id, "acme", "planner", "bob", Role.AGENT, frozenset(), ("crm.*",), kept, self.now)
        await self.store.add(replace(made, **fields), ANONYMOUS)  # type: ignore[arg-type]
        return made, text

    async def refused(self, metadata: Metadata) -> ToolwrightError:
        with pytest.raises(ToolwrightError) as caught:
            await self.authenticator.authenticate(metadata, "ipv4:10.0.0.1:5")
        assert caught.value.failure.reason is Reason.UNAUTHENTICATED
        assert caught.value.failure.metadata == {"outcome": "not_started"}
        return caught.value


@pytest.fixture
def desk() -> Desk:
    return Desk()


def bearer(text: str) -> Metadata:
    return (("user-agent", "x"), ("authorization", f"Bearer {text}"), ("traceparent", "y"))


async def test_a_key_is_looked_up_once(desk: Desk) -> None:
    _, text = await desk.key()
    assert desk.authenticator.known(bearer(text)) is None
    caller = await desk.authenticator.authenticate(bearer(text), "")
    assert caller == Caller("acme", "planner", "bob", scopes=("crm.*",))
    assert all(desk.authenticator.known(bearer(text)) is caller for _ in range(3))
    assert desk.store.looked_up == 1


@pytest.mark.parametrize("form", ["authorization: Bearer {}", "authorization: bearer  {} ", "x-api-key: {}"])
async def test_a_key_may_come_in_several_forms(desk: Desk, form: str) -> None:
    _, text = await desk.key()
    name, _, value = form.format(text).partition(": ")
    assert (await desk.authenticator.authenticate(((name, value),), "")).user == "bob"
    assert desk.authenticator.known(((name, value),)) is not None


async def test_all_that_is_wrong_is_refused_in_the_same_words(desk: Desk) -> None:
    revoked, revoked_text = await desk.key(revoke_time=1.0)
    _, expired = await desk.key(expire_time=desk.now)
    _, right = await desk.key()
    other_secret = f"{TEXTS.make()[1][:20]}{right[20:]}"
    never_kept = TEXTS.make()[1]
    attempts = {
        revoked_text: Why.REVOKED_KEY,
        expired: Why.EXPIRED_KEY,
        never_kept: Why.UNKNOWN_KEY,
        other_secret: Why.UNKNOWN_KEY,
        right[:-1]: Why.UNKNOWN_KEY,
        right + "x": Why.UNKNOWN_KEY,
        "tw_": Why.UNKNOWN_KEY,
        "a.b.c": Why.MALFORMED,
    }
    said = {str(await desk.refused(bearer(text))) for text in attempts}
    assert said == {"the credentials are not valid"}
    assert desk.counted == [why.value for why in attempts.values()]
    assert revoked.key_id


async def test_made_up_keys_never_reach_the_store(desk: Desk) -> None:
    made, text = await desk.key()
    for ending in ("A" * 8, "B" * 8):
        await desk.refused(bearer(text[:-8] + ending))
    await desk.refused(bearer(f"tw_{made.key_id}_{'0' * 51}"))
    assert desk.store.looked_up == 0


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ((), Why.MISSING),
        ((("authorization-x", "Bearer x"),), Why.MISSING),
        ((("authorization", "Basic eDp5"),), Why.MALFORMED),
        ((("authorization", "Bearer"),), Why.MALFORMED),
        ((("authorization", "Bearer "),), Why.MALFORMED),
        ((("authorization", b"\xff"),), Why.MALFORMED),
        ((("x-api-key", "Bearer x"),), Why.UNKNOWN_KEY),
    ],
)
async def test_what_is_no_credential_is_refused(desk: Desk, metadata: Metadata, why: Why) -> None:
    await desk.refused(metadata)
    assert desk.counted == [why.value]


async def test_two_credentials_are_refused_although_each_is_right(desk: Desk) -> None:
    _, text = await desk.key()
    await desk.authenticator.authenticate(bearer(text), "")
    for second in (("x-api-key", text), ("authorization", f"Bearer {text}"), ("authorization", "Bearer other")):
        both = (*bearer(text), second)
        assert desk.authenticator.known(both) is None
        await desk.refused(both)
    assert set(desk.counted) == {"ambiguous"}


async def test_a_revoked_key_is_refused_from_the_next_call_on(desk: Desk) -> None:
    made, text = await desk.key()
    _, other = await desk.key()
    for each in (text, other):
        await desk.authenticator.authenticate(bearer(each), "")
    await desk.store.revoke(made.key_id, desk.now, ANONYMOUS)
    desk.authenticator.forget_key(made.key_id)
    assert desk.authenticator.known(bearer(text)) is None
    assert desk.authenticator.known(bearer(other)) is not None
    await desk.refused(bearer(text))


async def test_a_key_that_is_revoked_while_it_is_looked_up_is_refused(desk: Desk) -> None:
    made, text = await desk.key()
    desk.store.go.clear()
    asking = asyncio.create_task(desk.authenticator.authenticate(bearer(text), ""))
    await asyncio.wait_for(desk.store.asked.wait(), 10)
    await desk.store.revoke(made.key_id, desk.now, ANONYMOUS)
    desk.authenticator.forget_key(made.key_id)
    desk.store.go.set()
    with pytest.raises(ToolwrightError, match="not valid"):
        await asking
    assert desk.authenticator.known(bearer(text)) is None


async def test_an_expired_key_is_not_remembered_any_longer(desk: Desk) -> None:
    _, text = await desk.key(expire_time=desk.now + 5)
    await desk.authenticator.authenticate(bearer(text), "")
    desk.now += 4.9
    assert desk.authenticator.known(bearer(text)) is not None
    desk.now += 0.1
    assert desk.authenticator.known(bearer(text)) is None
    await desk.refused(bearer(text))


async def test_the_memory_of_credentials_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolwright_server.identity.authenticator._REMEMBERED", 10)
    texts = [(await desk.key())[1] for _ in range(25)]
    for text in texts:
        await desk.authenticator.authenticate(bearer(text), "")
    assert sum(desk.authenticator.known(bearer(text)) is not None for text in texts) <= 10
    assert desk.authenticator.known(bearer(texts[-1])) is not None


async def test_mode_none_lets_everybody_in_whatever_is_sent() -> None:
    for metadata in ((), (("authorization", "Bearer nonsense"),)):
        assert Everybody().known(metadata) is ANONYMOUS


async def test_a_flood_of_refusals_is_counted_and_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    counted: list[str] = []
    refusals = Refusals(counted.append, lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            refusals.refuse(NotAuthentic(Why.UNKNOWN_KEY), "ipv4:10.0.0.1:5")
        now = 11.0
        refusals.refuse(NotAuthentic(Why.SIGNATURE, "detail"), "ipv4:10.0.0.2:5")
    assert len(counted) == 1_001
    assert len(caplog.messages) == 7
    assert caplog.messages[5:] == [
        "refused the credentials of 995 more calls",
        "refused the credentials of a call from ipv4:10.0.0.2:5: signature (detail)",
    ]
