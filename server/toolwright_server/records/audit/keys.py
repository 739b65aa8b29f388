"""The key that signs checkpoints: an Ed25519 private key in a file that lies outside the data directory."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from toolwright_server.errors import SettingsError
from toolwright_server.identity import secret_files
from toolwright_server.records.audit.offline import lines
from toolwright_server.records.audit.offline.lines import Keys


class SigningKey:
    """Signs, and says which key it is. `trusted` are all keys whose signatures count, its own among them."""

    def __init__(self, private: Ed25519PrivateKey, others: Keys | None = None) -> None:
        self._private = private
        self.key_id = lines.key_id(private.public_key())
        self.trusted: Keys = {**(others or {}), self.key_id: private.public_key()}

    def sign(self, text: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._private.sign(text)

    @property
    def public_pem(self) -> bytes:
        """The public key as PEM text."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def open_key(path: Path, data_dir: Path, public: tuple[Path, ...] = ()) -> SigningKey:
    """The key in the file, made at the first start, with the public keys of earlier times and other servers.

    The public key is written beside it, as `<file>.pub`. Raises SettingsError.
    """
    path, data_dir = path.expanduser().resolve(), data_dir.resolve()
    if path.is_relative_to(data_dir):
        raise SettingsError(
            f"audit_key_file = {str(path)!r} lies in the data directory {str(data_dir)!r}: whoever can change the "
            "record could sign it as well; name a file elsewhere"
        )
    key = SigningKey(_private(path, secret_files.read_or_make(path, _made)), _public(public))
    beside = path.with_name(f"{path.name}.pub")
    try:
        if not beside.exists() or beside.read_bytes() != key.public_pem:
            beside.write_bytes(key.public_pem)
    except OSError as error:
        raise SettingsError(f"the public key {beside} cannot be written: {error.strerror}") from None
    return key


def _made() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _private(path: Path, pem: bytes) -> Ed25519PrivateKey:
    try:
        found = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise SettingsError(f"audit_key_file {path} holds no Ed25519 private key as PEM text without a password")
    return found


def _public(paths: tuple[Path, ...]) -> Keys:
    found: Keys = {}
    for path in paths:
        try:
            found |= lines.public_keys(path.expanduser().read_bytes())
        except OSError as error:
            raise SettingsError(f"audit_public_keys: {path} cannot be read: {error.strerror}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise SettingsError(f"audit_public_keys: {path} holds no Ed25519 public key as PEM text") from None
    return found
