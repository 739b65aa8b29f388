"""Files that appear only when they are complete."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from toolwright_server.commands.asking import UsageError


def keep(output: Path, pieces: Iterator[bytes]) -> None:
    """Whole or not at all: one that broke off would look as if somebody had cut it. Raises UsageError."""
    part = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
