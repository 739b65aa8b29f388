"""Several server processes behind one port whose members are killed under load, again and again: the long form.

`TORTURE_SEED` repeats a run: the same calls, tools and moments (what the machine makes of them is another matter).
"""

import asyncio
import contextlib
import os
import random
import time
from pathlib import Path

import psutil
import pytest

from tests.counter import running_counter
from tests.databases import Postgres
from tests.live import LiveServer, alive, eventually, starting_server
from tests.several import LEASE_SECONDS, MODULE, SECONDS, Stores, all_healthy, server_processes, settings, several
from tests.valkeys import Server

from .auditing import audited
from .draining import assert_nothing_was_lost, drain
from .housing import TOOLS
from .killing import Load, figures
from .surviving import survived

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
# Processes that are killed again and again are replaced ever more rarely: more would take hours.
KILLS = max(5, round(40 * SCALE))
DRAINS = max(1, round(3 * SCALE))
ORPHANS = max(2, round(20 * SCALE))
PROCESSES = 3
# Connections, which the kernel gives to the processes as it likes.
CONNECTIONS = 12

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]


@pytest.fixture
def stores(own_postgres: Postgres, own_valkey: Server) -> Stores:
    return Stores.of(own_postgres, own_valkey)


def test_processes_that_are_killed_in_turn_lose_nothing_and_do_nothing_twice(tmp_path: Path, stores: Stores) -> None:
    chance, load = random.Random(SEED), Load(SEED)
    with running_counter(tmp_path / "counter", stores.database_url) as counter:
        env = {"COUNTER_SOCKET": str(counter.socket)}
        with several(tmp_path, stores, "--tools", str(TOOLS), processes=PROCESSES, **env) as server:
            for _ in range(KILLS):
                # Any of them, also one that is just starting; somebody is left to answer.
                eventually(lambda: server.metric("toolwright_server_processes") >= 2, 2 * SECONDS, 0.1)
                load.life(
                    [server.address] * CONNECTIONS,
                    moment=chance.uniform(0.05, 0.6),
                    kill=lambda: killed(server, chance),
                    after=0.2,
                )
            all_healthy(server, PROCESSES, 4 * SECONDS)
            load.finish([server.address] * CONNECTIONS)
            found = survived(server.address, load.asked, counter.effects())

            def settled() -> bool:
                nonlocal found
                if found.unfinished():
                    found = survived(server.address, load.asked, counter.effects())
                return not found.unfinished()

            eventually(settled, 10 * LEASE_SECONDS, 0.2)
            print(f"\nseed {SEED}: {figures(load, KILLS, len(found.effects))}")  # noqa: T201
            wrong = found.wrong()
            assert not wrong, f"seed {SEED}: {len(wrong)} things are wrong, among them:\n" + "\n".join(wrong[:20])
            assert sum(asked.lost for asked in load.asked) >= KILLS
            trail = audited(server, tmp_path, {"TOOLWRIGHT_AUDIT_KEY_FILE": str(tmp_path / "audit.key")})
            wrong = trail.wrong(found)
            assert not wrong, f"seed {SEED}: {len(wrong)} things are wrong in the audit trail:\n" + "\n".join(
                wrong[:20]
            )
            assert server.terminate() == 0


def killed(server: LiveServer, chance: random.Random) -> None:
    """Kill one of the processes that there are at this moment."""
    eventually(lambda: bool(server_processes(server)), SECONDS)
    chance.choice(list(server_processes(server).values())).kill()


@pytest.mark.parametrize("attempt", range(DRAINS))
def test_a_drain_of_all_processes_under_load_loses_nothing(tmp_path: Path, stores: Stores, attempt: int) -> None:
    with several(tmp_path, stores, processes=PROCESSES, TOOLWRIGHT_DRAIN_NOTICE_SECONDS="2") as server:
        below = server.descendants()
        found = asyncio.run(drain(server, calls=200, streams=50, seconds=8, connections=CONNECTIONS))
        assert_nothing_was_lost(found)
        eventually(lambda: not any(alive(process.pid) for process in below), 5)
        print(f"drain {attempt}: 250 answered rightly, {found.served_after_the_flip} more served after the flip")  # noqa: T201


def test_no_process_outlives_a_supervisor_that_is_killed_at_any_moment(tmp_path: Path, stores: Stores) -> None:
    chance = random.Random(SEED)
    for number in range(ORPHANS):
        with starting_server(tmp_path / str(number), env=settings(stores, PROCESSES)) as server:
            time.sleep(chance.uniform(0.2, 8.0))
            server.process.kill()
            eventually(lambda folder=server.data_dir: not serving(folder), 1)
            server.process.wait(SECONDS)


def serving(data_dir: Path) -> list[int]:
    """The server processes with this data directory, whoever is their parent now."""
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if MODULE in process.cmdline() and process.environ().get("TOOLWRIGHT_DATA_DIR") == str(data_dir):
                found.append(process.pid)
    return found
