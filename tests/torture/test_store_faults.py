"""The database fails under load and comes back: what was promised holds, and nothing is done without its intent."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.breaking import (
    Fault,
    FilesMayNotGrow,
    FrozenPostgres,
    FullDisk,
    LockedFile,
    ReadOnlyPostgres,
    StoppedPostgres,
    small_disk,
)
from tests.counter import Counter, running_counter
from tests.databases import Postgres
from tests.live import LiveServer, eventually, execute_request, stubs
from tests.refused import refused

from .housing import TOOLS, House
from .killing import Load, figures
from .surviving import Survived, survived

pytestmark = [pytest.mark.torture, pytest.mark.timeout(120)]

DATABASE = "toolwright.sqlite3"
SEED = 3
BROKEN_SECONDS = 2.0
SETTINGS = {"TOOLWRIGHT_STORAGE_TIMEOUT_SECONDS": "0.5"}


@contextlib.contextmanager
def on_sqlite(folder: Path, data: Path | None = None) -> Generator[tuple[House, Counter]]:
    """What servers share whose data are in `data`, or else below `folder`."""
    where = data or folder / "data-one"
    with running_counter(folder / "counter", str(where / DATABASE)) as counter:
        yield House(folder, counter, data_dir=data), counter


@contextlib.contextmanager
def on_postgres(folder: Path, postgres: Postgres) -> Generator[tuple[House, Counter]]:
    """The same with a database that keeps what it has said it kept, also when it is broken off."""
    url = postgres.make_database()
    postgres.execute(f"ALTER DATABASE {url.partition('@/')[2].partition('?')[0]} SET synchronous_commit = on")
    # Nobody looks for intents: with the database gone that could not be told from one that is missing.
    with running_counter(folder / "counter") as counter:
        yield House(folder, counter, url), counter


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk() as disk, on_sqlite(tmp_path, disk / "data") as (house, counter):
        weather(house, counter, FullDisk(disk))


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    with on_sqlite(tmp_path) as (house, counter):
        weather(house, counter, FilesMayNotGrow(), may_fail_to_record=True)


def test_a_sqlite_file_that_somebody_else_has_locked(tmp_path: Path) -> None:
    with on_sqlite(tmp_path) as (house, counter):
        weather(house, counter, LockedFile(tmp_path / "data-one" / DATABASE))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_postgres_that_is_stopped_and_started(tmp_path: Path, own_postgres: Postgres, how: signal.Signals) -> None:
    with on_postgres(tmp_path, own_postgres) as (house, counter):
        weather(house, counter, StoppedPostgres(own_postgres, how))


def test_a_postgres_that_answers_nothing_for_a_while(tmp_path: Path, own_postgres: Postgres) -> None:
    with on_postgres(tmp_path, own_postgres) as (house, counter):
        weather(house, counter, FrozenPostgres(own_postgres))


def test_a_postgres_that_is_read_only_for_a_while(tmp_path: Path, own_postgres: Postgres) -> None:
    with on_postgres(tmp_path, own_postgres) as (house, counter):
        weather(house, counter, ReadOnlyPostgres(own_postgres))


def test_a_server_does_not_start_on_a_database_that_it_cannot_write(tmp_path: Path) -> None:
    with small_disk() as disk:
        with on_sqlite(tmp_path, disk / "data") as (house, _), house.life() as server:
            settings = house.settings("one")
            server.terminate()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], timeout=10, check=True)
        command = [sys.executable, "-m", "toolwright_server.main", "serve", "--tools", str(TOOLS)]
        ended = subprocess.run(
            command, env=os.environ | settings, capture_output=True, text=True, timeout=30, check=False
        )
    assert ended.returncode == 78
    assert str(disk) in ended.stderr
    assert "Traceback" not in ended.stderr


def weather(house: House, counter: Counter, fault: Fault, *, may_fail_to_record: bool = False) -> None:
    """Load through the fault; then again; then from another server what is left."""
    load = Load(SEED)
    with house.life("one", **SETTINGS) as server:
        load.life([server.address], moment=0.4, kill=lambda: fault.begin(server), after=BROKEN_SECONDS)
        assert_acts_are_refused(server, counter)
        # What ran when it began has ended without its database.
        assert may_fail_to_record or server.metric("toolwright_record_spilled")
        fault.end(server)
        eventually(lambda: is_answered(load, server), seconds=30, interval=0.1)
        eventually(lambda: not server.metric("toolwright_record_spilled"), seconds=30, interval=0.1)
        print(f"\n{figures(load, house.lives, len(counter.effects()))}")  # noqa: T201 (read with `pytest -s`)
        assert_held(settled(server, load, counter), load, may_fail_to_record=may_fail_to_record)
        assert server.terminate() == 0
    with house.life("one", **SETTINGS) as server:
        assert_held(settled(server, load, counter), load, may_fail_to_record=may_fail_to_record)


def is_answered(load: Load, server: LiveServer) -> bool:
    """Asks again for what was refused; the server may need a moment to see that its database is back."""
    load.finish([server.address])
    return not load.unanswered


def settled(server: LiveServer, load: Load, counter: Counter) -> Survived:
    """The history, once nothing is being settled any more."""
    found = survived(server.address, load.asked, counter.effects())

    def ended() -> bool:
        nonlocal found
        found = survived(server.address, load.asked, counter.effects())
        return not found.unfinished()

    eventually(ended, seconds=20, interval=0.2)
    return found


def assert_acts_are_refused(server: LiveServer, counter: Counter) -> None:
    """Before anything happens, with a word on when to come again; and nobody waits long for it."""
    before = len(counter.effects())
    with stubs(server) as (execution, _):
        status = refused(lambda: execution.Execute(execute_request("acting.act", {"key": "refused"}), timeout=10))
    assert (status.code, status.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert status.metadata["outcome"] == "not_started"
    assert status.retry_seconds
    assert len(counter.effects()) == before


def assert_held(found: Survived, load: Load, *, may_fail_to_record: bool) -> None:
    """What was promised, and that the fault hit something."""
    explained = {"RECORD_FAILED"} if may_fail_to_record else set[str]()
    wrong = found.wrong(explained)
    assert not wrong, f"{len(wrong)} things are wrong, among them:\n" + "\n".join(wrong[:20])
    assert not sum(asked.lost for asked in load.asked)
    assert {told.reason for asked in load.asked for told in asked.refused} == {"STORE_UNAVAILABLE"}
    said = {(told.outcome, bool(asked.request_id)) for asked in load.asked for told in asked.refused}
    # Of a request that may have been made before nobody can say more while its first outcome cannot be read.
    assert ("not_started", True) in said <= {("not_started", True), ("not_started", False), ("", True)}
    done = {effect.key for effect in found.effects}
    assert not [asked.key for asked in load.asked if asked.refused and not asked.request_id and asked.key in done]
