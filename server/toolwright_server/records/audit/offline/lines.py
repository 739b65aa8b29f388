"""Reads the lines of an export: cuts off hash or signature, and takes nothing on trust but its own types."""

import hashlib
import json
from typing import Any, NamedTuple, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

_HASH_TAIL = len(',"hash":""}') + 64
_SIGNATURE_TAIL = len(',"signature":""}') + 128
_SEQUENCE_LIMIT = 2**63
_KINDS = ("entry", "checkpoint", "trailer", "export")
_PEM_END = b"-----END PUBLIC KEY-----"

Keys = dict[str, Ed25519PublicKey]


class Unreadable(Exception):
    """A line is not what it must be. The text says why."""


class Untrusted(Exception):
    """A line is signed with a key that was not given."""


class Linked(NamedTuple):
    """A member of a chain: its place, what comes before it, its own hash, and all that it says."""

    chain: str
    sequence: int
    previous: bytes
    digest: bytes
    said: dict[str, Any]


def kind_of(line: bytes) -> str:
    """`export`, `checkpoint`, `entry` or `trailer` as the line begins, or else as it ends; empty: it is none."""
    for kind in _KINDS:
        if line.startswith(b'{"type":"%b",' % kind.encode()):
            return kind
    if line[-_HASH_TAIL:].startswith(b',"hash":"'):
        return "entry"
    if line[-_SIGNATURE_TAIL:].startswith(b',"signature":"'):
        return "trailer" if b',"digest":"' in line else "checkpoint"
    return ""


def parsed(text: bytes) -> dict[str, Any]:
    """The members of a line. Raises Unreadable."""
    try:
        said: object = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("it is no JSON") from None
    if not isinstance(said, dict):
        raise Unreadable("it is no JSON object")
    return cast("dict[str, Any]", said)


def entry(line: bytes) -> Linked:
    """An entry whose hash is its own. Raises Unreadable."""
    text = line[:-_HASH_TAIL] + b"}"
    digest = hashlib.sha256(text)
    if line[-_HASH_TAIL:] != b',"hash":"%b"}' % digest.hexdigest().encode():
        raise Unreadable("its hash is not that of its content")
    return _linked(text, digest.digest())


def checkpoint(line: bytes, keys: Keys) -> Linked:
    """A checkpoint whose signature is good. Raises Unreadable or Untrusted."""
    text = signed(line, keys)
    return _linked(text, hashlib.sha256(text).digest())


def signed(line: bytes, keys: Keys) -> bytes:
    """The text that a line signs, if its signature is good. Raises Unreadable or Untrusted."""
    text, tail = line[:-_SIGNATURE_TAIL] + b"}", line[-_SIGNATURE_TAIL:]
    try:
        signature = bytes.fromhex(tail[14:-2].decode("ascii"))
    except ValueError:
        raise Unreadable("its signature is no hexadecimal number") from None
    if tail != b',"signature":"%b"}' % signature.hex().encode():
        raise Unreadable("it does not end in a signature")
    key_id = text_of(parsed(text), "key")
    if key_id not in keys:
        raise Untrusted(f"it is signed with the key {key_id[:64]!r}, which was not given")
    try:
        keys[key_id].verify(signature, text)
    except InvalidSignature:
        raise Unreadable("its signature is not that of its content") from None
    return text


def _linked(text: bytes, digest: bytes) -> Linked:
    said = parsed(text)
    sequence = number_of(said, "sequence")
    if not 0 < sequence < _SEQUENCE_LIMIT:
        raise Unreadable("its sequence is out of range")
    return Linked(text_of(said, "chain"), sequence, hash_of(said.get("previous")), digest, said)


def text_of(said: dict[str, Any], name: str) -> str:
    """A member that is a text. Raises Unreadable."""
    value = said.get(name)
    if not isinstance(value, str):
        raise Unreadable(f"its member {name} is no text")
    return value


def number_of(said: dict[str, Any], name: str) -> int:
    """A member that is a whole number. Raises Unreadable."""
    value = said.get(name)
    if type(value) is not int:
        raise Unreadable(f"its member {name} is no whole number")
    return value


def hash_of(value: object) -> bytes:
    """A SHA-256 in hexadecimal digits. Raises Unreadable."""
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        found = b""
    if len(found) != 32 or found.hex() != value:  # noqa: PLR2004 (bytes of a SHA-256)
        raise Unreadable("a hash in it is none")
    return found


def chain_id(tenant: str | None, server: str, epoch: int) -> str:
    """The chain of a tenant's entries on one run of one server."""
    text = json.dumps([tenant, server, epoch], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def key_id(key: Ed25519PublicKey) -> str:
    """How signatures name their key: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def public_keys(pem: bytes) -> Keys:
    """The Ed25519 keys of a PEM file, by id. Raises ValueError when there is none, or something else."""
    found: Keys = {}
    for part in pem.split(_PEM_END)[:-1]:
        key = load_pem_public_key(part + _PEM_END)
        if isinstance(key, Ed25519PublicKey):
            found[key_id(key)] = key
    if not found:
        raise ValueError("there is no Ed25519 public key in the file")
    return found
