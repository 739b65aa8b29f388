"""Deletes the oldest part of the trail so that the rest can still be verified.

What is to go is verified first; then a checkpoint says, signed, up to where each chain was removed on purpose; only
then is it deleted. Whatever interrupts this leaves a trail that verifies.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import orjson

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.records.audit import encoding, model
from toolwright_server.records.audit.checkpoints import Checkpointer
from toolwright_server.records.audit.exporting import PAGE, Exporter
from toolwright_server.records.audit.model import Anchor, Checkpoint, Entry, Head, Kind, Row, Span
from toolwright_server.records.audit.offline.report import Report
from toolwright_server.records.audit.store import AuditStore

_DAY_SECONDS: Final = 86_400.0


class NotPrunable(Exception):
    """The trail does not verify: nothing of it is deleted. `report` says what is wrong."""

    def __init__(self, report: Report) -> None:
        first = report.problems[0]
        where = f"chain {first.chain or 'unknown'}"
        super().__init__(f"the audit trail does not verify, so nothing of it is erased: {where}: {first.says}")
        self.report = report


class Pruned(NamedTuple):
    """How many entries and checkpoints were deleted."""

    entries: int
    checkpoints: int


class Pruning:
    """One server's way to prune the trail of all. Two servers that prune at the same time delete nothing wrong."""

    def __init__(self, store: AuditStore, exporter: Exporter, checkpointer: Checkpointer) -> None:
        self._store = store
        self._exporter = exporter
        self._checkpointer = checkpointer

    async def erase(self, before: float, _limit: int = 0) -> int:
        """`prune` for the rules of retention, by whole days: each time the whole trail is verified. How many entries
        are gone. Raises as `prune`.
        """
        horizon = before // _DAY_SECONDS * _DAY_SECONDS
        alive = await self._alive()
        for span in await self._store.spans(None):
            first = await self._store.entries(span.last.chain_id, span.first - 1, span.first, 1)
            ends = span.first < span.last.sequence or not _goes_on(span, alive)
            if ends and first and first[0].time < horizon:
                return (await self.prune(horizon)).entries
        return 0

    async def prune(self, before: float) -> Pruned:
        """Delete what is older than `before` (seconds since the epoch); each tenant's trail says what it lost.

        Raises NotPrunable, STORE_UNAVAILABLE, or INVALID_STATE while somebody reads the trail: try again later.
        """
        if self._exporter.readers:
            raise ToolwrightError(Reason.INVALID_STATE, "the audit trail is being exported or verified")
        async with self._exporter.pruning:
            report = await self._exporter.verify_held(None)
            if not report.valid:
                raise NotPrunable(report)
            return await self._prune(before)

    async def _prune(self, before: float) -> Pruned:
        alive = await self._alive()
        spans = await self._store.spans(None)
        ends = [(span, end) for span in spans if (end := await self._end(span, before, alive)) is not None]
        found = await self._old_checkpoints(before, alive)
        lost = Counter[str]()
        for span, end in ends:
            lost[span.tenant] += end.sequence - span.first + 1
        count = Pruned(lost.total(), found.count)
        if count == (0, 0):
            return count
        entries = [end for _, end in ends]
        await self._checkpointer.sign(pruned=_statement(before, entries, spans, found))
        evidence = [
            Entry(
                Kind.RETENTION,
                tenant,
                "",
                "",
                self._checkpointer.now(),
                facts={"what": "audit", "before": int(before), "count": number},
            )
            for tenant, number in sorted(lost.items())
        ]
        await self._store.prune(entries, found.ends, evidence)
        return count

    async def _alive(self) -> Sequence[tuple[str, int]]:
        return [*await self._store.alive(), self._checkpointer.server]

    async def _end(self, span: Span, before: float, alive: Sequence[tuple[str, int]]) -> Head | None:
        """The last entry of a chain that is too old; None when there is none."""
        lowest, highest = span.first - 1, span.last.sequence
        if _goes_on(span, alive):
            # The next entry is written after this one.
            highest -= 1
        end: Row | None = None
        while lowest < highest:
            middle = (lowest + highest + 1) // 2
            rows = await self._store.entries(span.last.chain_id, middle - 1, middle, 1)
            if rows and rows[0].time < before:
                lowest, end = middle, rows[0]
            else:
                highest = middle - 1
        return None if end is None else Head(end.chain_id, end.sequence, end.hash)

    async def _old_checkpoints(self, before: float, alive: Sequence[tuple[str, int]]) -> "_Checkpoints":
        found = _Checkpoints(before, {encoding.chain_id(None, *server) for server in alive})
        after = "", 0
        while page := await self._store.checkpoints(after, PAGE):
            for checkpoint in page:
                found.add(checkpoint)
            after = page[-1].chain_id, page[-1].sequence
        found.close()
        return found


class _Checkpoints:
    """What is to go of the checkpoints, and the anchors that earlier ones hold."""

    def __init__(self, before: float, alive: set[str]) -> None:
        self.ends: list[Head] = []
        self.left: set[str] = set()
        self.count = 0
        self.newest = 0.0
        self.entry_anchors: dict[str, Anchor] = {}
        self.checkpoint_anchors: dict[str, Anchor] = {}
        self._before = before
        self._alive = alive
        self._end: Head | None = None
        self._last: Checkpoint | None = None

    def add(self, checkpoint: Checkpoint) -> None:
        if self._last is not None and self._last.chain_id != checkpoint.chain_id:
            self.close()
        elif self._last is not None and self._last.time < self._before:
            self._old(self._last)
        self._last = checkpoint
        self.newest = max(self.newest, checkpoint.time)
        said: dict[str, Any] = orjson.loads(checkpoint.body)
        pruned = cast("dict[str, list[Any]]", said.get("pruned", {}))
        _gather(self.entry_anchors, pruned.get("entries", []))
        _gather(self.checkpoint_anchors, pruned.get("checkpoints", []))

    def close(self) -> None:
        """The chain of these checkpoints has ended."""
        last = self._last
        if last is None:
            return
        if last.time < self._before and last.chain_id not in self._alive:
            self._old(last)
        else:
            self.left.add(last.chain_id)
        if self._end is not None:
            self.ends.append(self._end)
        self._end = self._last = None

    def _old(self, checkpoint: Checkpoint) -> None:
        self._end = checkpoint.head
        self.count += 1


def _goes_on(span: Span, alive: Sequence[tuple[str, int]]) -> bool:
    return any(span.last.chain_id == encoding.chain_id(span.tenant, *server) for server in alive)


def _statement(before: float, ends: Sequence[Head], spans: Sequence[Span], found: _Checkpoints) -> model.Pruned:
    horizon = encoding.microseconds(before)
    # When what is pruned was last spoken of: the newest checkpoint there is.
    listed = encoding.microseconds(found.newest)
    gone = set(ends)
    left = {span.last.chain_id for span in spans if span.last not in gone}
    return model.Pruned(
        horizon,
        _anchors(found.entry_anchors, ends, left, horizon, listed),
        _anchors(found.checkpoint_anchors, found.ends, found.left, horizon, listed),
    )


def _gather(anchors: dict[str, Anchor], rows: list[Any]) -> None:
    for chain, sequence, digest, listed in rows:
        known = anchors.get(chain)
        if known is None or known.head.sequence < sequence:
            anchors[chain] = Anchor(Head(chain, sequence, bytes.fromhex(digest)), listed)


def _anchors(
    known: dict[str, Anchor], ends: Sequence[Head], left: set[str], horizon: int, listed: int
) -> Sequence[Anchor]:
    """What must be said from now on: where chains go on, and what checkpoints that are still there may ask for."""
    fresh = {end.chain_id: Anchor(end, listed) for end in ends}
    kept = {chain: anchor for chain, anchor in known.items() if chain in left or anchor.listed >= horizon}
    return [anchor for _, anchor in sorted({**kept, **fresh}.items())]
