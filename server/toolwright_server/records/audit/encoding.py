"""The bytes that are hashed and signed, and the lines of an export made of them. docs/audit.md has them byte by byte.

Each is one JSON object without white space whose members stand in the order written here. Hash or signature are put
behind the last member, so that whoever verifies a line cuts them off and needs no encoder of its own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from toolwright_server.records.audit.model import Checkpoint, Fact, Head, Row, Statement

FORMAT: Final = 1
_MICROSECONDS: Final = 1_000_000
# Of a SHA-256, in hexadecimal digits: enough that no two chains ever share one.
_ID_DIGITS: Final = 24

# Chain, sequence, time in microseconds, tenant, kind, principal, user, execution id, facts, previous hash.
Columns = tuple[str, int, int, str, str, str, str, str, bytes, bytes]


def microseconds(seconds: float) -> int:
    """A time as it is written. Exact back and forth for every time that was a whole number of microseconds."""
    return round(seconds * _MICROSECONDS)


@lru_cache(4_096)
def chain_id(tenant: str | None, server_id: str, epoch: int) -> str:
    """The chain of a tenant's entries on one run of one server; None: that server's checkpoints."""
    return hashlib.sha256(orjson.dumps([tenant, server_id, epoch])).hexdigest()[:_ID_DIGITS]


def facts_text(facts: Mapping[str, Fact]) -> bytes:
    """JSON text of an entry's facts, members sorted by name. Raises TypeError for what JSON cannot write."""
    return orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)


def entry_text(columns: Columns) -> bytes:
    """What the hash of an entry is made of: its columns but for the hash, with the time in microseconds."""
    chain, sequence, time, tenant, kind, principal, user, execution_id, facts, previous = columns
    return orjson.dumps(
        {
            "type": "entry",
            "chain": chain,
            "sequence": sequence,
            "time": time,
            "tenant": tenant,
            "kind": kind,
            "principal": principal,
            "user": user,
            "execution": execution_id,
            "facts": orjson.Fragment(facts),
            "previous": previous.hex(),
        }
    )


def entry_line(row: Row) -> bytes:
    """An entry as a line of an export, with the hash that was kept for it: it shows when anything else was changed."""
    text = entry_text((row[0], row[1], microseconds(row[2]), *row[3:10]))
    return b'%b,"hash":"%b"}' % (text[:-1], row.hash.hex().encode())


def checkpoint_text(statement: Statement) -> bytes:
    """What a checkpoint signs."""
    said: dict[str, Any] = {
        "type": "checkpoint",
        "chain": statement.chain_id,
        "sequence": statement.sequence,
        "time": statement.time,
        "server": statement.server_id,
        "epoch": statement.epoch,
        "key": statement.key_id,
        "previous": statement.previous.hex(),
        "heads": [_head(head) for head in statement.heads],
        "named": [[*_head(head), time] for head, time in statement.named],
        "closing": statement.closing,
    }
    pruned = statement.pruned
    if pruned is not None:
        said["pruned"] = {
            "before": pruned.before,
            "entries": [[*_head(anchor.head), anchor.listed] for anchor in pruned.entries],
            "checkpoints": [[*_head(anchor.head), anchor.listed] for anchor in pruned.checkpoints],
        }
    return orjson.dumps(said)


def _head(head: Head) -> tuple[str, int, str]:
    return head.chain_id, head.sequence, head.hash.hex()


def checkpoint_line(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as a line of an export."""
    return signed_line(checkpoint.body, checkpoint.signature)


def header_line(tenant: str | None, time: int, server_id: str) -> bytes:
    """The first line of an export. The tenant is null when it is of all of them."""
    said = {"type": "export", "format": FORMAT, "time": time, "server": server_id, "tenant": tenant}
    return orjson.dumps(said)


def trailer_text(
    time: int, key_id: str, *, entries: int, checkpoints: int, digest: bytes, chains: Sequence[tuple[int, Head]]
) -> bytes:
    """What the last line of an export signs: how much there is, SHA-256 of all lines before, and each chain's ends."""
    said = {
        "type": "trailer",
        "time": time,
        "key": key_id,
        "entries": entries,
        "checkpoints": checkpoints,
        "digest": digest.hex(),
        "chains": [[head.chain_id, first, head.sequence, head.hash.hex()] for first, head in chains],
    }
    return orjson.dumps(said)


def signed_line(text: bytes, signature: bytes) -> bytes:
    """A signed text as a line of an export."""
    return b'%b,"signature":"%b"}' % (text[:-1], signature.hex().encode())
