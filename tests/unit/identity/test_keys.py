import stat
from pathlib import Path

import pytest

from toolwright_server.errors import SettingsError
from toolwright_server.identity import Role, secret_files
from toolwright_server.identity.keys import ApiKey, KeyTexts, is_key_id
from toolwright_server.identity.names import ALL_TOOLS

TEXTS = KeyTexts(b"p" * 32)


def key(secret_hash: bytes, **fields: object) -> ApiKey:
    given = {"scopes": ("*",), "expire_time": None, **fields}
    return ApiKey("0" * 16, "t", "p", "u", Role.AGENT, frozenset(), secret_hash=secret_hash, create_time=0.0, **given)  # type: ignore[arg-type]


def test_a_text_names_its_key_and_opens_it() -> None:
    key_id, text, kept = TEXTS.make()
    assert text.startswith(f"tw_{key_id}_")
    assert is_key_id(key_id)
    assert TEXTS.key_id(text) == key_id
    assert TEXTS.opens(key(kept), text)


def test_what_is_kept_does_not_hold_the_text() -> None:
    _, text, kept = TEXTS.make()
    assert len(kept) == 32
    assert text.encode() not in kept
    assert KeyTexts(b"q" * 32).kept(text) != kept


def test_no_two_texts_are_the_same() -> None:
    assert len({TEXTS.make()[1] for _ in range(200)}) == 200


def test_every_other_character_makes_it_another_text() -> None:
    _, text, kept = TEXTS.make()
    for place in range(len(text)):
        other = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        assert TEXTS.key_id(other) is None
        assert not TEXTS.opens(key(kept), other)


@pytest.mark.parametrize("text", ["", "tw_", "tw_a_b", "Bearer x", "tw_" + "a" * 16 + "_" + "b" * 51, "é" * 71])
def test_what_was_not_made_here_is_known_without_looking(text: str) -> None:
    assert TEXTS.key_id(text) is None


def test_with_another_pepper_it_is_not_one_of_ours() -> None:
    assert KeyTexts(b"q" * 32).key_id(TEXTS.make()[1]) is None


def test_a_key_ends_when_it_expires() -> None:
    assert not key(b"").expired(1e12)
    assert [key(b"", expire_time=10.0).expired(now) for now in (9.9, 10.0)] == [False, True]


def test_a_key_for_all_tools_is_quick_to_ask() -> None:
    assert key(b"", scopes=("crm.*", "*")).caller().scopes is ALL_TOOLS
    assert key(b"", scopes=("crm.*",)).caller().scopes == ("crm.*",)


def test_the_pepper_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pepper"
    first = secret_files.pepper(path)
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret_files.pepper(path) == first
    assert list(path.parent.iterdir()) == [path]


def test_a_pepper_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    secret_files.pepper(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match=r"others may read .*chmod 600"):
        secret_files.pepper(path)


def test_a_short_pepper_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    secret_files.write(path, b"short\n")
    with pytest.raises(SettingsError, match="holds 5 bytes; at least 32"):
        secret_files.pepper(path)


def test_a_folder_is_no_pepper(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.mkdir(mode=0o700)
    with pytest.raises(SettingsError, match="cannot be read"):
        secret_files.pepper(path)
