"""Where a client sends its API key or token, and where it refuses to."""

import pytest

from toolwright_client import AsyncClient, Client, Tls
from toolwright_client.proof import Proof, is_local, proof_of

KEY = "tw_0123456789abcdef_secret"


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051", "127.8.0.1:1", "localhost:1", "[::1]:5", "unix:/run/x", "unix-abstract:x",
        "dns:///127.0.0.1:5", "dns:localhost:5", "ipv4:127.0.0.1:5", "ipv6:[::1]:5",
    ],
)  # fmt: skip
def test_this_machine_is_known_by_its_addresses(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1:1", "example.org:1", "127.0.0.1.example.org:1", "localhost.example.org:1", "dns:///example.org:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1", "[2001:db8::1]:1", "xds:///127.0.0.1", "dns://127.0.0.1/example.org:1", "",
    ],
)  # fmt: skip
def test_every_other_target_is_another_machine(target: str) -> None:
    assert not is_local(target)


@pytest.mark.parametrize("make", [AsyncClient, Client])
def test_a_key_is_not_sent_in_the_clear(make: type[AsyncClient] | type[Client]) -> None:
    with pytest.raises(ValueError, match="not encrypted") as caught:
        make("example.org:1", api_key=KEY)
    assert KEY not in str(caught.value)
    make("example.org:1", api_key=KEY, insecure=True)
    make("example.org:1", api_key=KEY, tls=Tls())
    make("127.0.0.1:1", api_key=KEY)


def test_a_key_and_a_token_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        AsyncClient("127.0.0.1:1", api_key=KEY, token="t")


@pytest.mark.parametrize("text", ["", "  ", "two words", "line\nbreak", "schlüssel"])
def test_what_cannot_be_a_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="no API key") as caught:
        AsyncClient("127.0.0.1:1", api_key=text)
    assert not text.strip() or text not in str(caught.value)


def test_a_token_that_is_renewed_is_asked_for_every_time() -> None:
    tokens = iter(["first", "second\n"])
    proof = Proof(lambda: next(tokens))
    assert [proof.header(), proof.header()] == [("authorization", "Bearer first"), ("authorization", "Bearer second")]


def test_nothing_given_proves_nothing() -> None:
    assert proof_of("example.org:1", None, None, encrypted=False, insecure=False) is None
    assert KEY not in repr(proof_of("127.0.0.1:1", KEY, None, encrypted=False, insecure=False))
