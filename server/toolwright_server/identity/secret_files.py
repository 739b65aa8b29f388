"""Secrets in files: read only where nobody else can, written so that nobody else ever could."""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from toolwright_server.errors import SettingsError

_PEPPER_BYTES = 32


def pepper(path: Path) -> bytes:
    """The pepper of API keys, 32 random bytes as hexadecimal text; made at the first start.

    Raises SettingsError when the file cannot be used: with another pepper no key would open any more.
    """
    text = read_or_make(path, lambda: secrets.token_hex(_PEPPER_BYTES).encode() + b"\n").strip()
    if len(text) < _PEPPER_BYTES:
        raise SettingsError(f"the pepper file {path} holds {len(text)} bytes; at least {_PEPPER_BYTES} are needed")
    return text


def read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in the file; one that does not exist is made, complete or not at all, also when two servers start."""
    if not path.exists():
        _write_once(path, make())
    return read(path)


def read(path: Path) -> bytes:
    """What is in the file. Raises SettingsError when it cannot be read, or others than its owner may read it."""
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError(f"others may read {path}, which holds a secret: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def write(path: Path, content: bytes) -> None:
    """Put a secret into a file, which is replaced. Raises SettingsError."""
    try:
        _fresh(path, content).replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None


def _write_once(path: Path, content: bytes) -> None:
    try:
        fresh = _fresh(path, content)
        try:
            # Unlike a rename it leaves alone what somebody else made meanwhile.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    except OSError as error:
        raise SettingsError(f"{path} cannot be made: {error.strerror}") from None


def _fresh(path: Path, content: bytes) -> Path:
    """A complete file beside `path`, on disk, that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return fresh
