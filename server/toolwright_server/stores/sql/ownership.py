"""One server for one SQLite file, by a lock beside it that the kernel gives back when its holder dies."""

import fcntl
import os
from pathlib import Path
from typing import IO

from toolwright_server.errors import SettingsError


class Owned:
    """The lock, as long as it is not closed."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def close(self) -> None:
        """Give it back."""
        self._file.close()


def own(path: Path) -> Owned:
    """Take the database file at `path` for this process. Raises SettingsError when another one has it."""
    lock = path.with_name(path.name + ".lock")
    lock.touch(mode=0o600)
    file = lock.open("a+")
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(32).strip() or "unknown"
        file.close()
        raise SettingsError(
            f"another server (process {holder}) uses the database {path}: stop it, give this one its own data_dir, "
            "or set database_url to a PostgreSQL, which several can share"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return Owned(file)
