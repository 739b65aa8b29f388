"""A thousand callers spend five hundred credits over four servers, round after round: never one more, never one less.

`TORTURE_SEED` repeats a run: the same calls, tools and moments (what the machine makes of them is another matter).
"""

import contextlib
import os
import random
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.counter import running_counter
from tests.databases import Postgres
from tests.live import LiveServer
from tests.several import SECONDS, Stores, all_healthy, server_processes, several
from tests.valkeys import Server

from .banking import Bank
from .bookkeeping import Books, admin_key
from .housing import TOOLS, House

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
ROUNDS = max(2, round(10 * SCALE))
SLOTS = ("one", "two", "three", "four")
# Where servers are killed, the others need not wait longer than that to say so.
LEASE_SECONDS = 6.0

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]


@pytest.fixture
def bank(tmp_path: Path, own_postgres: Postgres, own_valkey: Server) -> Generator[Bank]:
    stores = Stores.of(own_postgres, own_valkey)
    with running_counter(tmp_path / "counter", stores.database_url) as counter:
        yield Bank(tmp_path, counter, stores)


class Four:
    """Four servers, each of which may be killed and started again under its name."""

    def __init__(self, bank: Bank, stack: contextlib.ExitStack) -> None:
        self._bank = bank
        self._house = House(bank.folder, bank.counter, bank.stores.database_url)
        self._lives = {slot: stack.enter_context(contextlib.ExitStack()) for slot in SLOTS}
        self.by_slot: dict[str, LiveServer] = {}
        for slot in SLOTS:
            self.start(slot)
        self.admin = admin_key(self.by_slot[SLOTS[0]].data_dir)

    @property
    def all(self) -> list[LiveServer]:
        return list(self.by_slot.values())

    def start(self, slot: str) -> None:
        """Start a server, also again; the killed one before it is buried."""
        self._lives[slot].close()
        life = self._house.life(slot, TOOLWRIGHT_SERVER_ID=slot, **self._bank.settings())
        self.by_slot[slot] = self._lives[slot].enter_context(life)


@contextlib.contextmanager
def four_servers(bank: Bank) -> Generator[Four]:
    with contextlib.ExitStack() as stack:
        yield Four(bank, stack)


@contextlib.contextmanager
def four_processes(bank: Bank) -> Generator[LiveServer]:
    folder, count = bank.folder / "several", len(SLOTS)
    with several(folder, bank.stores, "--tools", str(TOOLS), processes=count, **bank.settings()) as server:
        yield server


def test_exactly_as_many_calls_succeed_as_are_paid_for_on_four_servers(bank: Bank) -> None:
    with four_servers(bank) as four:
        for number in range(ROUNDS):
            bank.spent(four.all, four.admin, f"round-{number}")
        for server in four.all:
            wrong = [line for line in server.lines() if line["level"] in {"error", "critical"}]
            # That a busy machine stood still is no fault.
            assert not [line for line in wrong if line["logger"] != "toolwright_server.telemetry.watchdog"]


def test_exactly_as_many_calls_succeed_as_are_paid_for_in_four_processes_of_one_server(bank: Bank) -> None:
    with four_processes(bank) as server:
        for number in range(ROUNDS):
            # The kernel gives each connection to one of the processes.
            bank.spent([server] * len(SLOTS), admin_key(server.data_dir), f"round-{number}")
        assert len(server_processes(server)) == len(SLOTS)


def test_nothing_is_overspent_and_what_nobody_knows_stays_held_when_a_server_is_killed(bank: Bank) -> None:
    bank, chance, found = replace(bank, lease_seconds=LEASE_SECONDS), random.Random(SEED), list[Books]()
    print(f"\nseed {SEED}")  # noqa: T201 (the long run's product)
    with four_servers(bank) as four:
        for number in range(ROUNDS):
            slot = chance.choice(SLOTS)
            survivor = next(server for name, server in four.by_slot.items() if name != slot)
            with bank.tenant(survivor, four.admin, f"kill-{number}") as tenant:
                found.append(bank.killed(four.all, four.by_slot[slot].process.kill, tenant, chance))
            four.start(slot)
    assert_hit(found)


def test_nothing_is_overspent_when_one_of_four_processes_is_killed_and_replaced(bank: Bank) -> None:
    bank, chance, found = replace(bank, lease_seconds=LEASE_SECONDS), random.Random(SEED), list[Books]()
    print(f"\nseed {SEED}")  # noqa: T201 (the long run's product)
    with four_processes(bank) as server:
        for number in range(ROUNDS):
            victim = chance.choice([process for _, process in sorted(server_processes(server).items())])
            with bank.tenant(server, admin_key(server.data_dir), f"kill-{number}") as tenant:
                found.append(bank.killed([server] * len(SLOTS), victim.kill, tenant, chance))
            all_healthy(server, len(SLOTS), 4 * SECONDS)
    assert_hit(found)


def assert_hit(found: Sequence[Books]) -> None:
    """That the kills have hit what they were for."""
    assert any(books.open for books in found)
    assert any(books.given_back for books in found)
