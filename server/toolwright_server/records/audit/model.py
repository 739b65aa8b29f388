"""What the audit trail consists of: entries, their rows, the heads of chains and the checkpoints that sign them."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

Fact = str | int | bool | None

HASH_BYTES: Final = 32
NOTHING_BEFORE: Final = bytes(HASH_BYTES)
"""The previous hash of the first entry of a chain."""


class Kind(StrEnum):
    """What an entry is about. Readers must expect further ones."""

    CHAIN = "chain"
    """A chain begins; always its first entry, written by the linker alone."""
    INTENT = "intent"
    """A tool is about to be called."""
    OUTCOME = "outcome"
    """What became of the call whose intent has an entry of its own."""
    CALL = "call"
    """Intent and outcome in one, of calls whose intent was not awaited."""
    REFUSAL = "refusal"
    """Somebody was refused."""
    REFUSALS = "refusals"
    """How often the same principal was refused for the same reason during a flood."""
    KEY = "key"
    """A credential was made or revoked."""
    SETTINGS = "settings"
    """Settings were changed."""
    RECONCILIATION = "reconciliation"
    """An unknown outcome was settled, by a look-up or by a person."""
    RECOVERY = "recovery"
    """What a dead server left behind was settled by a survivor."""
    RETENTION = "retention"
    """Records were deleted because of their age."""
    EXPORT = "export"
    """Somebody took a copy of the trail."""
    CREDITS = "credits"
    """Credits were granted."""


class Entry(NamedTuple):
    """What is to be kept; a chain and a place in it are given to it when it is written.

    `time` is in seconds since the epoch. `execution_id` is empty when it is about none. `facts` hold no payload: what
    stands here can never be erased.
    """

    kind: str
    tenant: str
    principal: str
    user: str
    time: float
    execution_id: str = ""
    facts: Mapping[str, Fact] = {}


class Row(NamedTuple):
    """An entry in its place: the columns of `audit_entries`, in their order. `body` is its facts as JSON text."""

    chain_id: str
    sequence: int
    time: float
    tenant: str
    kind: str
    principal: str
    user: str
    execution_id: str
    body: bytes
    previous: bytes
    hash: bytes


class Head(NamedTuple):
    """An entry, named by its place and its hash. Says everything about the entries before it as well."""

    chain_id: str
    sequence: int
    hash: bytes


class Span(NamedTuple):
    """What is there of a chain: its first and last entry."""

    chain_id: str
    tenant: str
    first: int
    last: Head


class Named(NamedTuple):
    """A checkpoint of another server, with its time in microseconds since the epoch."""

    head: Head
    time: int


class Anchor(NamedTuple):
    """Everything up to this entry was removed on purpose; `listed` is when that was first said, in microseconds."""

    head: Head
    listed: int


class Pruned(NamedTuple):
    """What retention removed: all that is older than `before`, in microseconds, and where each chain goes on."""

    before: int
    entries: Sequence[Anchor]
    checkpoints: Sequence[Anchor]


class Statement(NamedTuple):
    """What a checkpoint says: the heads of the chains that grew since the one before it, whose hash is `previous`.

    `closing`: nothing follows in any chain of this run of the server. For one that died a survivor says so.
    """

    chain_id: str
    sequence: int
    # In microseconds since the epoch.
    time: int
    server_id: str
    epoch: int
    key_id: str
    previous: bytes
    heads: Sequence[Head]
    named: Sequence[Named] = ()
    closing: bool = False
    pruned: Pruned | None = None


class Checkpoint(NamedTuple):
    """A signed statement: the columns of `audit_checkpoints`, in their order. `body` is the text that is signed."""

    chain_id: str
    sequence: int
    time: float
    hash: bytes
    signature: bytes
    body: bytes

    @property
    def head(self) -> Head:
        """Its place and its hash."""
        return Head(self.chain_id, self.sequence, self.hash)
