from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from toolwright_server.errors import SettingsError
from toolwright_server.records.audit.keys import open_key
from toolwright_server.records.audit.offline.lines import public_keys


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "audit.key"
    key = open_key(path, tmp_path / "data")
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_key(path, tmp_path / "data").key_id == key.key_id


def test_the_public_key_lies_beside_it(tmp_path: Path) -> None:
    key = open_key(tmp_path / "audit.key", tmp_path / "data")
    assert set(public_keys((tmp_path / "audit.key.pub").read_bytes())) == {key.key_id}


def test_a_key_in_the_data_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lies in the data directory"):
        open_key(tmp_path / "data" / "audit.key", tmp_path / "data")


def test_a_link_into_the_data_directory_is_refused_as_well(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "data")
    with pytest.raises(SettingsError, match="lies in the data directory"):
        open_key(tmp_path / "elsewhere" / "audit.key", tmp_path / "data")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    open_key(path, tmp_path / "data")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="others may read"):
        open_key(path, tmp_path / "data")


def test_a_file_that_holds_no_such_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"nonsense", other):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SettingsError, match="holds no Ed25519 private key"):
            open_key(path, tmp_path / "data")


def test_keys_of_earlier_times_are_trusted_too(tmp_path: Path) -> None:
    old = open_key(tmp_path / "old.key", tmp_path / "data")
    new = open_key(tmp_path / "new.key", tmp_path / "data", (tmp_path / "old.key.pub",))
    assert set(new.trusted) == {old.key_id, new.key_id}


def test_a_public_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.pub").write_text("nonsense")
    with pytest.raises(SettingsError, match="audit_public_keys"):
        open_key(tmp_path / "audit.key", tmp_path / "data", (tmp_path / "some.pub",))
    with pytest.raises(SettingsError, match="cannot be read"):
        open_key(tmp_path / "audit.key", tmp_path / "data", (tmp_path / "absent.pub",))
