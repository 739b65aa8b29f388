"""Answers in Redis or Valkey, the same for every server that shares it: one key each, which expires by itself.

Has connections of its own: large answers do not keep those waiting who count. A store that is gone or slow has nothing.
"""

import asyncio
import hashlib
import logging
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson
from redis.exceptions import MovedError

from toolwright_server.execution.recall.key import Key
from toolwright_server.execution.recall.store import Kept
from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.asking import Ask, Timings
from toolwright_server.stores.redis.cluster import Cluster
from toolwright_server.stores.redis.link import Link
from toolwright_server.stores.redis.scripts import packed

_logger = logging.getLogger(__name__)

_PREFIX: Final = b"tw:result:"
# Bytes of answers that are on their way to the store; what comes beyond is not kept.
_UNDER_WAY_LIMIT: Final = 4 << 20


class RedisResultStore:
    """A ResultStore. Open it before the first verb. `timeout_milliseconds`: how long a call waits for it at most."""

    def __init__(self, address: Address, timeout_milliseconds: float) -> None:
        self._timings = Timings.of(timeout_milliseconds / 1_000)
        self._cluster = Cluster(address, self._linked)
        self._under_way = 0

    async def open(self) -> None:
        """Connect. A store that cannot be reached is said in the log and tried again."""
        await self._cluster.first.settled()

    async def close(self) -> None:
        """Send what is still to be sent, in bounded time."""
        await asyncio.gather(*(link.close() for link in self._cluster.links.values()))

    @property
    def is_up(self) -> bool:
        """Whether the store answers; of a cluster, every server that was needed so far."""
        return all(link.is_up for link in self._cluster.links.values())

    async def get(self, key: Key) -> Kept | None:
        name = _name(key)
        waiting = self._cluster.link(name).ask(packed((b"GET", name)))
        answer = await waiting if waiting is not None else None
        return _read(answer) if isinstance(answer, bytes) else None

    def put(self, key: Key, kept: Kept, ttl_seconds: float) -> None:
        name, written = _name(key), _written(kept)
        if self._under_way + len(written) > _UNDER_WAY_LIMIT:
            return
        lasts = b"%d" % max(1, round(ttl_seconds * 1_000))
        # Asked, not told: what the store does not take in time is not sent later, when it may be stale.
        waiting = self._cluster.link(name).ask(packed((b"SET", name, written, b"PX", lasts)))
        if waiting is not None:
            self._under_way += len(written)
            waiting.add_done_callback(partial(self._arrived, len(written)))

    def _arrived(self, size: int, _: "asyncio.Future[Any]") -> None:
        self._under_way -= size

    def _linked(self, address: Address, moved: Callable[[Ask, MovedError], None]) -> Link:
        return Link(address, self._timings, changed=partial(_changed, address.where), moved=moved)


def _name(key: Key) -> bytes:
    """Says neither who asked nor what."""
    parts = (key.tenant.encode(), key.principal.encode(), key.digest)
    whole = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return _PREFIX + hashlib.sha256(whole).hexdigest().encode()


def _written(kept: Kept) -> bytes:
    """A line of JSON that says what it is, and the answer."""
    return orjson.dumps([1, kept.time, kept.execution_id, kept.user]) + b"\n" + kept.result


def _read(written: bytes) -> Kept | None:
    """None for what another release wrote in another way."""
    head, line, result = written.partition(b"\n")
    try:
        form, time, execution_id, user = orjson.loads(head)
    except ValueError:
        return None
    if form != 1 or not line or not isinstance(time, float):
        return None
    return Kept(result, time, str(execution_id), str(user))


def _changed(where: str, is_up: bool, why: str) -> None:
    if is_up:
        _logger.info("the result store at %s answers: results are shared", where)
    else:
        _logger.warning("the result store at %s does not answer (%s): until it does, tools are called", where, why)
