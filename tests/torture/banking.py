"""Rounds in which many callers spend the credits of a new tenant over several servers, and what must be true then.

One PostgreSQL holds the ledger, one Valkey the limits; side effects are counted by a process of its own.
"""

import contextlib
import random
import time
from collections import Counter as Tally
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.counter import Counter
from tests.live import LiveServer, eventually
from tests.several import Stores
from toolwright.v1 import usage_pb2

from .bookkeeping import CREDIT, SECONDS, Books, Tenant, happened
from .spending import Purchase, alike, mixed, spend

# How long a tool takes at most before it acts, and after it: what a kill falls into.
PAUSE_SECONDS = 0.4
# A server is killed after so many side effects at most, as a part of what is paid for.
LATEST_KILL = 0.7
# Places of calls of a dead server are free after so long.
PLACE_SECONDS = 4.0
# Fewer may run at once than come: the others wait for a place. None of the rules lets anybody in uncounted.
RULES = """
ready_made = false

[[rule]]
name = "user-hour"
per = "user"
window_seconds = 3600
limit = 100000
fail = "closed"

[[rule]]
name = "user-running"
per = "user"
count = "running"
limit = 400
fail = "closed"
"""


@dataclass(frozen=True)
class Bank:
    """What servers share, and how much of it each tenant gets: so many calls come for so many credits."""

    folder: Path
    counter: Counter
    stores: Stores
    callers: int = 1_000
    credits: int = 500
    # A busy machine must not take a server for dead that nobody has killed.
    lease_seconds: float = 30.0

    def settings(self) -> dict[str, str]:
        """What every server is told besides where its data is."""
        rules = self.folder / "limits.toml"
        rules.write_text(RULES)
        return {
            "TOOLWRIGHT_AUTH": "api-key",
            "TOOLWRIGHT_PEPPER_FILE": str(self.folder / "pepper"),
            "TOOLWRIGHT_LIMITS_FILE": str(rules),
            "TOOLWRIGHT_LIMITS_QUEUE_LIMIT": str(self.callers),
            "TOOLWRIGHT_REDIS_URL": self.stores.redis_url,
            # Two cores may have to do for all of it: that something is slow is not what is asked here.
            "TOOLWRIGHT_REDIS_TIMEOUT_MILLISECONDS": "30000",
            "TOOLWRIGHT_LEASE_SECONDS": str(self.lease_seconds),
            "TOOLWRIGHT_REDIS_LEASE_SECONDS": str(PLACE_SECONDS),
            "TOOLWRIGHT_STORAGE_TIMEOUT_SECONDS": "30",
            "TOOLWRIGHT_PROCESS_WORKERS": "1",
            "TOOLWRIGHT_PROCESS_EXTRA_WORKERS": "0",
            "COUNTER_SOCKET": str(self.counter.socket),
        }

    @contextlib.contextmanager
    def tenant(self, server: LiveServer, admin: str, name: str) -> Generator[Tenant]:
        """A new one with its credits, as it is seen through one of the servers."""
        with grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
            made = Tenant(channel, admin, name)
            made.grant(self.credits)
            yield made

    def books(self, tenant: Tenant) -> Books:
        """Everything about its credits as it is now."""
        return Books.of(tenant, self.counter, self.credits)

    def spent(self, servers: Sequence[LiveServer], admin: str, name: str) -> None:
        """One round: all callers want the same. Every credit was spent then and not one more, and whoever was refused
        was counted by no limit.
        """
        with self.tenant(servers[0], admin, name) as tenant:
            purchases, began = alike(self.callers, name), time.monotonic()
            spend([server.address for server in servers], purchases, tenant.user)
            seconds = time.monotonic() - began
            books = self.books(tenant)
            told(name, seconds, purchases, books)
            assert_right(books, purchases)
            reasons = Tally(one.reason for one in purchases)
            assert reasons == {"OK": self.credits, "INSUFFICIENT_CREDITS": self.callers - self.credits}
            assert len(books.effects) == len(books.charged) == len(books.rows) == self.credits
            assert not books.open
            counted = {usage_pb2.QUOTA_KIND_WINDOW: self.credits, usage_pb2.QUOTA_KIND_RUNNING: 0}
            eventually(lambda: used(tenant) == counted)

    def killed(
        self, servers: Sequence[LiveServer], kill: Callable[[], None], tenant: Tenant, chance: random.Random
    ) -> Books:
        """One round in which a server dies; the books as they were before an operator settled what nobody knew."""
        purchases, began = mixed(self.callers, tenant.name, chance, PAUSE_SECONDS), time.monotonic()
        before, moment = len(self.counter.effects()), chance.randrange(1, round(LATEST_KILL * self.credits))

        def strike() -> None:
            eventually(lambda: len(self.counter.effects()) >= before + moment, SECONDS, 0.005)
            kill()

        spend([server.address for server in servers], purchases, tenant.user, meanwhile=strike)
        # What the dead one had begun is settled by the others, and looked up where that can be.
        eventually(lambda: not tenant.unfinished(), 5 * self.lease_seconds + SECONDS, 0.2)
        seconds = time.monotonic() - began
        books = self.books(tenant)
        told(f"{tenant.name}, killed after {moment} effects,", seconds, purchases, books)
        assert_right(books, purchases)
        assert {books.rows[execution_id].tool for execution_id in books.open} <= {"acting.paid"}
        for execution_id in books.open:
            tenant.declare(execution_id, happened=happened(self.counter, execution_id))
        after = self.books(tenant)
        assert_right(after, purchases)
        assert not after.open
        eventually(lambda: used(tenant)[usage_pb2.QUOTA_KIND_RUNNING] == 0, 5 * PLACE_SECONDS)
        return books


def used(tenant: Tenant) -> dict[Any, int]:
    """What its limits have counted, by kind."""
    return {quota.kind: quota.used for quota in tenant.quota().quotas}


def assert_right(books: Books, purchases: Sequence[Purchase]) -> None:
    """That nothing is wrong, or what."""
    wrong = books.wrong(purchases)
    assert not wrong, f"{len(wrong)} things are wrong, among them:\n" + "\n".join(wrong[:20])


def told(name: str, seconds: float, purchases: Sequence[Purchase], books: Books) -> None:
    """What happened, for the long run's reader."""
    said = dict(sorted(Tally(one.reason for one in purchases).items()))
    deferred = dict(Tally(each.reason for one in purchases for each in one.deferred))
    balance = books.quota.balance
    print(  # noqa: T201 (the long run's product)
        f"{name} in {seconds:.1f} s: {said}, lost {sum(one.lost for one in purchases)}, deferred {deferred}; "
        f"{len(books.effects)} effects, {len(books.charged)} charged, {len(books.given_back)} given back, "
        f"{balance.held_micros // CREDIT} held, {balance.balance_micros // CREDIT} left"
    )
