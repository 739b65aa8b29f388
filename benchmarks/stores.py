"""The stores that servers share: a real PostgreSQL and a real Valkey of this run's own, ended with it."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.databases import NoPostgresError, Postgres
from tests.valkeys import NoServerError, Server


@contextmanager
def shared_counters() -> Generator[dict[str, str]]:
    """A Valkey alone, running and empty, as settings of a server that counts in it.

    Raises:
        RuntimeError: it cannot run on this machine; says why.
    """
    with tempfile.TemporaryDirectory(prefix="tw-bench-") as folder:
        valkey = Server(Path(folder))
        try:
            valkey.start()
        except NoServerError as error:
            raise RuntimeError(str(error)) from error
        try:
            yield {"TOOLWRIGHT_REDIS_URL": valkey.url}
        finally:
            valkey.kill()


@contextmanager
def postgres_alone() -> Generator[str]:
    """A PostgreSQL alone, running, as the URL of an empty database of it. It does not wait for the disk.

    Raises:
        RuntimeError: it cannot run on this machine; says why.
    """
    # Not in the benchmark's folder: another user runs it, and the path of its socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="tw-bench-"))
    postgres = None
    try:
        try:
            postgres = Postgres(folder)
            postgres.create()
            postgres.start()
        except NoPostgresError as error:
            raise RuntimeError(str(error)) from error
        yield postgres.make_database()
    finally:
        if postgres is not None:
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def shared_stores() -> Generator[dict[str, str]]:
    """Both, running, as settings of a server that uses them; empty.

    The PostgreSQL does not wait for the disk: processes are compared here, and they would wait for the same disk.

    Raises:
        RuntimeError: one of them cannot run on this machine; says why.
    """
    # Not in the benchmark's folder: another user runs PostgreSQL, and the path of its socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="tw-bench-"))
    folder.chmod(0o711)
    postgres = valkey = None
    try:
        try:
            postgres = Postgres(_made(folder / "pg"))
            postgres.create()
            postgres.start()
            valkey = Server(_made(folder / "vk"))
            valkey.start()
        except (NoPostgresError, NoServerError) as error:
            raise RuntimeError(str(error)) from error
        yield {"TOOLWRIGHT_DATABASE_URL": postgres.make_database(), "TOOLWRIGHT_REDIS_URL": valkey.url}
    finally:
        if valkey is not None:
            valkey.kill()
        if postgres is not None:
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
