"""Counters of limits in Redis or Valkey, the same for every server that shares it. Each verb is one round trip.

No call waits longer for the store than it is allowed to: then the `fail` of each check decides. Never raises.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import MovedError

from toolwright_server.limits.model import Check, Fail, Reading, Taking
from toolwright_server.limits.store import LimitStore
from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.asking import Ask, Timings
from toolwright_server.stores.redis.cluster import Cluster
from toolwright_server.stores.redis.commands import HELD, REFUSED, TAKEN, Plan, Plans
from toolwright_server.stores.redis.fallback import Fallback
from toolwright_server.stores.redis.link import Link
from toolwright_server.stores.redis.options import RedisLimitOptions, Watch
from toolwright_server.stores.redis.servers import Servers

_logger = logging.getLogger(__name__)

# When somebody is told to come again who is refused because the store is gone: spread, and tried again by then.
_RETRY_SECONDS: Final = (1.0, 2.0)
_HEARTBEATS: Final = 3
# The answer to a taking that was given up before it was sent, or refused.
_NOTHING: Final = (REFUSED,)


class RedisLimitStore:
    """A LimitStore. `local` counts while the shared one does not answer. Open it before the first verb."""

    def __init__(self, options: RedisLimitOptions, address: Address, local: LimitStore, watch: Watch | None) -> None:
        self._options = options
        self._watch = watch
        self._timings = Timings.of(options.timeout_milliseconds / 1_000)
        self._plans = Plans(options.lease_seconds)
        # By token: what a call was let in by, until it has ended; a store that lost its places can be told of them.
        self._taken: dict[str, Plan] = {}
        self._cluster = Cluster(address, self._linked)
        self._servers = Servers(self._cluster.link, options.server_id, options.lease_seconds / _HEARTBEATS)
        self._fallback = Fallback(local, lambda: self._servers.count, _come_again_seconds)

    async def open(self) -> None:
        """Connect. A store that cannot be reached is said in the log and tried again."""
        await self._cluster.first.settled()
        await self._servers.say()
        self._servers.start()
        if self._watch is not None:
            self._watch.observe("toolwright.limits.store.up", lambda: self.is_up)
            self._watch.observe("toolwright.limits.store.servers", lambda: self.servers)

    async def close(self) -> None:
        """Leave, and send what is still to be sent, in bounded time."""
        await self._servers.close()
        await asyncio.gather(*(link.close() for link in self._cluster.links.values()))

    @property
    def link(self) -> Callable[[bytes], Link]:
        """Whom to ask for a key: circuits travel over the same connections."""
        return self._cluster.link

    @property
    def is_up(self) -> bool:
        """Whether the store answers; of a cluster, every server that was needed so far."""
        return all(link.is_up for link in self._cluster.links.values())

    @property
    def servers(self) -> int:
        """How many servers shared the store when it was last seen."""
        return self._servers.count

    @property
    def connections(self) -> int:
        """How often a connection was made, or tried."""
        return sum(link.connections for link in self._cluster.links.values())

    @property
    def timeouts(self) -> int:
        """How often an answer did not come in time."""
        return sum(link.timeouts for link in self._cluster.links.values())

    async def take(self, checks: Sequence[Check], token: str) -> Taking:
        if not checks:
            return Taking(())
        plan = self._plans.of(checks)
        written = token.encode()
        # A call that was let in already keeps what it holds, whatever becomes of this.
        late = None if token in self._taken else partial(self._late, plan, written)
        waiting = self._cluster.link(plan.slot_key).ask(plan.take(written), late)
        try:
            answer = await waiting if waiting is not None else None
        except asyncio.CancelledError:
            # The answer may have come in the same moment.
            if late is not None and waiting is not None and waiting.done() and not waiting.cancelled():
                late(waiting.result() or _NOTHING)
            raise
        if answer is None:
            return await self._without(plan, token)
        if answer[0] != REFUSED:
            self._taken[token] = plan
        return plan.taking(answer)

    async def give_back(self, checks: Sequence[Check], token: str) -> None:
        self._tell(checks, token, b"give_back")
        await self._fallback.give_back(token)

    async def release(self, checks: Sequence[Check], token: str) -> None:
        self._tell(checks, token, b"release")
        await self._fallback.release(token)

    async def renew(self, checks: Sequence[Check], tokens: Sequence[str]) -> None:
        """A place that the store has lost is had again, when this server took it."""
        own: dict[int, tuple[Plan, list[bytes]]] = {}
        others: list[bytes] = []
        for token in tokens:
            plan = self._taken.get(token)
            if plan is None:
                others.append(token.encode())
            else:
                own.setdefault(id(plan), (plan, []))[1].append(token.encode())
        for plan, written in own.values():
            self._send(plan, plan.about(b"restore", written))
        if others and checks:
            plan = self._plans.of(checks)
            self._send(plan, plan.about(b"renew", others))
        await self._fallback.renew(checks, tokens)

    async def read(self, checks: Sequence[Check]) -> Sequence[Reading]:
        if not checks:
            return ()
        plan = self._plans.of(checks)
        waiting = self._cluster.link(plan.slot_key).ask(plan.read())
        answer = await waiting if waiting is not None else None
        return await self._fallback.read(checks) if answer is None else plan.readings(answer)

    async def _without(self, plan: Plan, token: str) -> Taking:
        """Decide without the store."""
        if token in self._taken:
            # It was let in already.
            return Taking(await self._fallback.read(plan.checks))
        taking = await self._fallback.take(plan.checks, token)
        if self._watch is not None:
            for fail in {check.fail for check in plan.checks}:
                self._watch.limit_store_decided(fail.value)
        if taking.refused is None:
            self._taken[token] = plan
        return taking

    def _tell(self, checks: Sequence[Check], token: str, verb: bytes) -> None:
        plan = self._taken.pop(token, None)
        if plan is None and checks:
            plan = self._plans.of(checks)
        if plan is not None:
            self._send(plan, plan.about(verb, (token.encode(),)))

    def _send(self, plan: Plan, commands: Sequence[bytes]) -> None:
        link = self._cluster.link(plan.slot_key)
        for command in commands:
            link.tell(command, plan.lasts_seconds)

    def _late(self, plan: Plan, token: bytes, answer: Any) -> None:
        """A taking that nobody waited for any more was done, or may have been: nobody would ever end it."""
        if answer is None or answer[0] in (TAKEN, HELD):
            self._send(plan, plan.about(b"give_back", (token,)))

    def _linked(self, address: Address, moved: Callable[[Ask, MovedError], None]) -> Link:
        round_trip = self._watch.limit_store_round_trip if self._watch is not None else None
        return Link(
            address, self._timings, changed=partial(_changed, address.where), moved=moved, round_trip=round_trip
        )


def _come_again_seconds() -> float:
    return random.uniform(*_RETRY_SECONDS)  # noqa: S311 - spreads load, protects nothing


def _changed(where: str, is_up: bool, why: str) -> None:
    if is_up:
        _logger.info("the limit store at %s answers: limits are shared", where)
    else:
        _logger.warning(
            "the limit store at %s does not answer (%s): until it does, rules say themselves what holds (%s)",
            where,
            why,
            ", ".join(f'fail = "{fail}"' for fail in Fail),
        )
