"""Changes on their way: one with whoever waits for it, and what a group of them comes to. Knows no database."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from toolwright_server.execution.usage import used
from toolwright_server.records.ledger.model import Denial, Move, Moved
from toolwright_server.records.usage.model import Use
from toolwright_server.stores.sql.change import Change, Denied, Done, Entry, Unkept, Work
from toolwright_server.stores.sql.rows import Row, values

_logger = logging.getLogger(__name__)

# Tenant, request id, principal: in the order of the primary key.
ClaimKey = tuple[str, str, str]
# The key, execution id, digest, expire time: in the order of the columns of `request_ids`.
Claim = tuple[str, str, str, str, bytes, float]


class Pending:
    """One change that waits for its commit. `since` is when, on the loop's clock."""

    __slots__ = (
        "change",
        "claim",
        "denied",
        "found",
        "free",
        "future",
        "quiet",
        "row",
        "settled",
        "since",
        "size",
        "use",
    )

    def __init__(self, change: Change, since: float, future: "asyncio.Future[str | None] | None" = None) -> None:
        self.change = change
        self.since = since
        self.future = future
        self.row: Row | None = None
        # What it counts for, once it has ended.
        self.use: Use | None = None
        self.claim: Claim | None = None
        self.free: tuple[str, str, str, str] | None = None
        self.size = 0
        # The audit entries of the change's work, as it ran last.
        self.found: Sequence[Entry] = ()
        # A move of it was not made, when it was tried last: why, and that the audit trail is not told of it.
        self.denied: Denied | None = None
        self.quiet = False
        self.settled = False

    def render(self, claim_seconds: float) -> None:
        """Take the values as they are now."""
        execution = self.change.execution
        if execution is None:
            return
        self.row = values(execution)
        if execution.ended:
            self.use = used(execution)
        self.size = len(execution.arguments or b"") + len(execution.result or b"")
        change = self.change
        if not (change.claims or change.frees):
            return
        caller, request_id, execution_id = execution.caller, execution.request_id, execution.execution_id
        if change.claims:
            expires = execution.create_time + claim_seconds
            self.claim = caller.tenant, request_id, caller.principal, execution_id, execution.digest, expires
        else:
            self.free = caller.tenant, request_id, caller.principal, execution_id

    def resolve(self, holder: str | None, error: Unkept | None) -> bool:
        """Tell whoever waits, once. False when the change is lost and nobody was told."""
        if self.settled:
            return True
        self.settled = True
        done, future = self.change.done, self.future
        if done is not None:
            _tell(done, holder, error)
        if future is None:
            return error is None or done is not None
        if not future.done():
            if error is None:
                future.set_result(holder)
            else:
                # An exception of its own for each: they gather tracebacks.
                future.set_exception(_again(error))
        return True


def _again(error: Unkept) -> Unkept:
    if isinstance(error, Denied):
        return Denied(error.denial)
    return type(error)(str(error), in_doubt=error.in_doubt)


def _tell(done: Done, holder: str | None, error: Unkept | None) -> None:
    try:
        done(holder, error)
    except Exception:
        # A defect of one caller must not reach the others of its group.
        _logger.exception("what was to follow a commit failed")


# What became of a group: for each of its changes, in their order, None or the id of who holds the claim; or why not.
Outcome = Sequence[str | None] | Unkept


class Sink(Protocol):
    """Where groups are committed, one at a time. Made for one database."""

    async def open(self) -> None:
        """Connect. Raises Unavailable."""
        ...

    def write(self, items: Sequence[Pending], done: Callable[[Outcome], None]) -> None:
        """Commit a group; `done` is called once, on the event loop, later. Not called again before that."""
        ...

    async def close(self) -> None:
        """Disconnect. Nothing is being written."""
        ...


def claims(items: Sequence[Pending]) -> dict[ClaimKey, Claim]:
    """What is claimed: of several claims of one key the first, as the others would find it taken.

    In the order of the keys: servers that claim the same keys wait for each other, and must not do so in a circle.
    """
    found: dict[ClaimKey, Claim] = {}
    for item in items:
        if item.claim is not None:
            found.setdefault(item.claim[:3], item.claim)
    return found if len(found) < 2 else {key: found[key] for key in sorted(found)}  # noqa: PLR2004 (one is sorted)


def results(items: Sequence[Pending], holders: Mapping[ClaimKey, str]) -> list[str | None]:
    """For each change None, or who holds what it claimed. `holders` has every key that was claimed."""
    if not holders:
        return [None] * len(items)
    found: list[str | None] = []
    for item in items:
        holder = holders[item.claim[:3]] if item.claim is not None else None
        found.append(None if item.claim is None or holder == item.claim[3] else holder)
    return found


def rows(items: Sequence[Pending], lost: Sequence[str | None]) -> list[Row]:
    """The rows to write, one for each execution: its last."""
    found = {item.row[0]: item.row for item, holder in zip(items, lost, strict=True) if item.row and holder is None}
    return list(found.values())


def entries(items: Sequence[Pending], lost: Sequence[str | None]) -> list[Entry]:
    """The audit entries of what is kept, in the order in which it was submitted."""
    return [
        entry
        for item, holder in zip(items, lost, strict=True)
        if (item.change.entries or item.found) and holder is None and not item.quiet
        for entry in (*item.change.entries, *item.found)
    ]


def works(items: Sequence[Pending], lost: Sequence[str | None]) -> list[tuple[Pending, Work]]:
    """What looks before it writes, in the order in which it was submitted; its entries go to `Pending.found`."""
    return [
        (item, item.change.work)
        for item, holder in zip(items, lost, strict=True)
        if item.change.work is not None and holder is None
    ]


def moves(items: Sequence[Pending], lost: Sequence[str | None]) -> list[tuple[Pending, Move]]:
    """The moves of credits, in the order in which they were submitted; `make` says what became of them."""
    found: list[tuple[Pending, Move]] = []
    for item, holder in zip(items, lost, strict=True):
        if item.change.moves:
            # A group that is tried again knows nothing of the last time.
            item.denied, item.quiet = None, False
            if holder is None:
                found += [(item, move) for move in item.change.moves]
    return found


def made(moves: Sequence[tuple[Pending, Move]], results: Sequence[Moved | Denial]) -> list[Pending]:
    """Tell the changes what became of their moves; those that were denied."""
    denied: dict[int, Pending] = {}
    for (item, _), result in zip(moves, results, strict=True):
        if isinstance(result, Denial):
            item.denied, item.quiet = Denied(result), True
            denied[id(item)] = item
        else:
            item.change.moved = result
            # A grant that was made before.
            item.quiet = item.quiet or (result.repeated and result.entry is not None)
    return list(denied.values())


def gone(items: Sequence[Pending], denied: Sequence[Pending]) -> tuple[list[str], list[Claim]]:
    """What was written for changes that were denied then: ids of executions, and claims."""
    kept = {item.row[0] for item in items if item.row is not None and item.denied is None}
    ids = [item.row[0] for item in denied if item.row is not None and item.row[0] not in kept]
    return ids, [item.claim for item in denied if item.claim is not None]


def uses(items: Sequence[Pending], lost: Sequence[str | None]) -> list[tuple[int, Use]]:
    """What the group adds to the figures of usage, or takes from them. Call when it is known which moves are denied.

    The row of an execution that has ended is written once; whoever decides about it later says so in `Change.uses`.
    """
    found: list[tuple[int, Use]] = []
    for item, holder in zip(items, lost, strict=True):
        if holder is None and item.denied is None:
            if item.use is not None:
                found.append((1, item.use))
            if item.change.uses:
                found += item.change.uses
    return found


def statements(items: Sequence[Pending], lost: Sequence[str | None]) -> list[tuple[Any, Mapping[str, Any]]]:
    """What else is to be executed, in the order in which it was submitted."""
    return [
        statement
        for item, holder in zip(items, lost, strict=True)
        if item.change.statements and holder is None
        for statement in item.change.statements
    ]
