"""Which server of the store has which keys. One has all; to those of a cluster links are made when they are needed.

The keys of a call lie in one slot, so that one server has all of them. Never asks for the map: whom a server names when
it is asked for what it does not have, is asked from then on.
"""

from collections.abc import Callable
from typing import Any, Final, cast

from redis.crc import key_slot
from redis.exceptions import MovedError

from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.asking import Ask
from toolwright_server.stores.redis.link import Link

# Slots of keys that are remembered; then they are computed anew.
_KEYS: Final = 16_384


class Cluster:
    """`make` makes a link to a server. The first one is asked for everything until it names others."""

    def __init__(self, address: Address, make: Callable[[Address, Callable[[Ask, MovedError], None]], Link]) -> None:
        self._make = make
        self._address = address
        self.first = make(address, self.moved)
        self.links: dict[str, Link] = {address.where: self.first}
        self._slots: dict[int, Link] = {}
        self._keys: dict[bytes, int] = {}

    def link(self, key: bytes) -> Link:
        """Whom to ask for a key."""
        if not self._slots:
            return self.first
        slot = self._keys.get(key)
        if slot is None:
            if len(self._keys) >= _KEYS:
                self._keys.clear()
            slot = self._keys[key] = key_slot(key)
        return self._slots.get(slot, self.first)

    def moved(self, ask: Ask, error: MovedError) -> None:
        """Another server has the slot: ask that one, now and from now on."""
        # Without a host it is the one that was asked, at another port.
        host = str(cast("Any", error).host or "")
        address = self._address.at(host or self._address.host, int(error.port))
        link = self.links.get(address.where)
        if link is None:
            link = self.links[address.where] = self._make(address, self.moved)
        self._slots[int(error.slot_id)] = link
        link.put(ask)
