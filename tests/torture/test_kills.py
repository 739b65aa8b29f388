"""SIGKILL at random moments under load, again and again, and what is left: the long form, with figures (`pytest -s`).

`TORTURE_SEED` repeats a run: the same calls, tools and moments (what the machine makes of them is another matter).
"""

import contextlib
import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.counter import Counter, running_counter
from tests.databases import Postgres
from tests.live import LiveServer

from .housing import House
from .keeping import kept, settled, told
from .killing import Load

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
KILLS = max(5, round(100 * SCALE))

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]


def kill(server: LiveServer) -> None:
    server.process.kill()


def test_a_server_on_sqlite_that_is_killed_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    database = tmp_path / "data-one" / "toolwright.sqlite3"
    with running_counter(tmp_path / "counter", str(database)) as counter:
        house, load, chance = House(tmp_path, counter), Load(SEED), random.Random(SEED)
        for _ in range(KILLS):
            with house.hard_life(chance) as server:
                moment = chance.uniform(0.05, 0.6)
                load.life([server.address], moment=moment, kill=lambda server=server: kill(server))
        with house.life() as server:
            load.finish([server.address])
            told(house, load, f"SQLite, seed {SEED}", settled(server, load, counter))
            assert_held(server, load, counter, tmp_path, house.settings("one"))


def test_two_servers_on_postgres_that_are_killed_in_turn_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    url = own_postgres.make_database()
    with running_counter(tmp_path / "counter", url) as counter, contextlib.ExitStack() as stack:
        house, load, chance = House(tmp_path, counter, url), Load(SEED), random.Random(SEED)
        slots = {slot: stack.enter_context(contextlib.ExitStack()) for slot in ("one", "two")}
        servers = {slot: lives.enter_context(house.life(slot)) for slot, lives in slots.items()}
        for _ in range(KILLS):
            moment, slot = chance.uniform(0.05, 0.6), chance.choice(list(slots))
            addresses = [server.address for server in servers.values()]
            load.life(addresses, moment=moment, kill=lambda slot=slot: kill(servers[slot]), after=0.2)
            slots[slot].close()
            servers[slot] = slots[slot].enter_context(house.hard_life(chance, slot))
        load.finish([server.address for server in servers.values()])
        told(house, load, f"PostgreSQL, seed {SEED}", settled(servers["one"], load, counter))
        assert_held(servers["two"], load, counter, tmp_path, house.settings("two"))


def assert_held(server: LiveServer, load: Load, counter: Counter, folder: Path, settings: Mapping[str, str]) -> None:
    """What was promised, and that the kills hit something."""
    found, _ = kept(server, load, counter, folder, settings=settings, name=f"seed {SEED}")
    assert sum(asked.lost for asked in load.asked) >= KILLS
    # Half of the kills at least, which are 50 in the long form, fell into batches.
    assert load.broken_lives >= KILLS / 2
    assert found.unknown()
    assert found.settled_by_look_up()
