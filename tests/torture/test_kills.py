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
from tests.live import LiveServer, eventually

from .auditing import audited
from .counting import miscounted
from .housing import LEASE_SECONDS, House
from .killing import Load, figures
from .surviving import Survived, survived

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
            told(house, load, "SQLite", settled(server, load, counter))
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
        told(house, load, "PostgreSQL", settled(servers["one"], load, counter))
        assert_held(servers["two"], load, counter, tmp_path, house.settings("two"))


def settled(server: LiveServer, load: Load, counter: Counter) -> Survived:
    """The history, once everything in it has an end: what the last one to die left behind takes a lease's time."""
    found = survived(server.address, load.asked, counter.effects())

    def ended() -> bool:
        nonlocal found
        if not found.unfinished():
            return True
        found = survived(server.address, load.asked, counter.effects())
        return False

    eventually(ended, seconds=10 * LEASE_SECONDS, interval=0.2)
    return found


def told(house: House, load: Load, where: str, found: Survived) -> None:
    """What happened, for the long run's reader."""
    print(f"\n{where}, seed {SEED}: {figures(load, house.lives, len(found.effects))}")  # noqa: T201
    print(f"  {len(found.rows)} in the history, unknown {found.unknown()}, not done {found.settled_by_look_up()}")  # noqa: T201


def assert_held(server: LiveServer, load: Load, counter: Counter, folder: Path, settings: Mapping[str, str]) -> None:
    """What was promised, and that the kills hit something."""
    found = survived(server.address, load.asked, counter.effects())
    wrong = found.wrong()
    assert not wrong, f"seed {SEED}: {len(wrong)} things are wrong, among them:\n" + "\n".join(wrong[:20])
    wrong = miscounted(server.address, found.rows.values())
    assert not wrong, f"seed {SEED}: {len(wrong)} figures are wrong, among them:\n" + "\n".join(wrong[:20])
    assert sum(asked.lost for asked in load.asked) >= KILLS
    assert load.lost_batches
    assert all(effect.intended for effect in found.effects)
    assert found.unknown()
    assert found.settled_by_look_up()
    trail = audited(server, folder, settings)
    wrong = trail.wrong(found)
    assert not wrong, f"seed {SEED}: {len(wrong)} things are wrong in the audit trail:\n" + "\n".join(wrong[:20])
