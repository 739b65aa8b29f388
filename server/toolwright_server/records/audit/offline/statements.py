"""What checkpoints say together: which entries must be there, what was removed on purpose, whom they name."""

from typing import Any, cast

from .continuity import Continuity, Demands
from .lines import Linked, Unreadable, chain_id, hash_of, number_of, text_of
from .report import Fault, Report


class Statements:
    """Feed it checkpoints whose signatures are good; `tenant` None: demand the entries of all tenants."""

    def __init__(self, report: Report, tenant: str | None) -> None:
        self.demands = Demands()
        # What was removed on purpose: up to which member, with its hash; and everything older than this time.
        self.anchors: dict[str, tuple[int, bytes]] = {}
        self.horizon = 0
        # Chains to which nothing can have been added any more, with their last entry.
        self.final: dict[str, int] = {}
        self._heads: dict[str, dict[str, int]] = {}
        self._checkpoint_anchors: dict[str, tuple[int, bytes]] = {}
        self._report = report
        self._tenant = tenant
        self._digests: dict[str, dict[int, bytes]] = {}
        self._named: list[tuple[str, int, bytes, int, int]] = []

    def read(self, checkpoint: Linked, line: int) -> None:
        """Take in what a checkpoint says. Raises Unreadable for a format that is not known."""
        said = checkpoint.said
        time, server, epoch = number_of(said, "time"), text_of(said, "server"), number_of(said, "epoch")
        if checkpoint.chain != chain_id(None, server, epoch):
            raise Unreadable("its chain is not that of its server")
        self._digests.setdefault(checkpoint.chain, {})[checkpoint.sequence] = checkpoint.digest
        own = None if self._tenant is None else chain_id(self._tenant, server, epoch)
        heads = self._heads.setdefault(checkpoint.chain, {})
        for chain, sequence, digest in _rows(said, "heads", 3):
            if self._demand(own, chain, sequence, digest, time):
                heads[chain] = sequence
        if said.get("closing") is True:
            self.final.update(heads)
        for chain, sequence, digest, named in _rows(said, "named", 4):
            self._named.append((chain, sequence, hash_of(digest), named, line))
        if "pruned" in said:
            self._pruned(said["pruned"])

    def judge(self, checkpoints: Continuity) -> None:
        """Once all are read: their chains must begin at 1 or at an anchor, and whom they name must be there."""
        for anchored, (sequence, digest) in self.anchors.items():
            self.demands.add(anchored, sequence, digest, 0)
        check_starts(checkpoints, "checkpoint", self._checkpoint_anchors, self._report)
        for chain, (sequence, digest) in self._checkpoint_anchors.items():
            self._check(chain, sequence, digest, checkpoints.starts[chain].line if chain in checkpoints.starts else 1)
        for chain, sequence, digest, time, line in self._named:
            there = self._digests.get(chain, {})
            if sequence in there:
                self._check(chain, sequence, digest, line)
            elif time >= self.horizon and self._checkpoint_anchors.get(chain, (0, b""))[0] < sequence:
                says = f"checkpoint {sequence} was removed: the first one of a later server names it"
                self._report.add(Fault.REMOVED, line, says, chain, sequence)

    def digest(self, chain: str, sequence: int) -> bytes | None:
        """The hash of a checkpoint."""
        return self._digests.get(chain, {}).get(sequence)

    def _check(self, chain: str, sequence: int, digest: bytes, line: int) -> None:
        if self._digests.get(chain, {}).get(sequence, digest) != digest:
            says = f"checkpoint {sequence} is not the one that another checkpoint names"
            self._report.add(Fault.CHANGED, line, says, chain, sequence)

    def _demand(self, own: str | None, chain: Any, sequence: Any, digest: Any, time: int) -> bool:
        ours = own is None or chain == own
        if ours:
            self.demands.add(chain, sequence, hash_of(digest), time)
        return ours

    def _pruned(self, said: Any) -> None:
        if not isinstance(said, dict):
            raise Unreadable("what it says was pruned cannot be read")
        pruned = cast("dict[str, Any]", said)
        self.horizon = max(self.horizon, number_of(pruned, "before"))
        for name, anchors in (("entries", self.anchors), ("checkpoints", self._checkpoint_anchors)):
            for chain, sequence, digest, _listed in _rows(pruned, name, 4):
                if anchors.get(chain, (0, b""))[0] < sequence:
                    anchors[chain] = sequence, hash_of(digest)


def check_starts(members: Continuity, noun: str, anchors: dict[str, tuple[int, bytes]], report: Report) -> None:
    """Each chain must begin with its first member, or where retention says that it goes on."""
    for chain, (first, previous, line) in members.starts.items():
        if first == 1:
            if previous is not None and any(previous):
                report.add(Fault.CHANGED, line, f"{noun} 1 names one before it", chain, 1)
            continue
        until, digest = anchors.get(chain, (0, b""))
        if until < first - 1:
            count = first - 1 - until
            says = f"{noun} {until + 1}{f' and {count - 1} behind it' if count > 1 else ''} was removed"
            report.add(Fault.REMOVED, line, says, chain, until + 1)
        elif until == first - 1 and previous is not None and previous != digest:
            says = f"{noun} {first} was put in the place of another: it does not follow what was pruned"
            report.add(Fault.CHANGED, line, says, chain, first)


def _rows(said: dict[str, Any], name: str, width: int) -> list[list[Any]]:
    """A member that is a list of lists of this width, all with a chain and a sequence. Raises Unreadable."""
    value = said.get(name)
    if not isinstance(value, list):
        raise Unreadable(f"its member {name} is no list")
    rows = cast("list[Any]", value)
    for row in rows:
        if not isinstance(row, list) or len(cast("list[Any]", row)) != width:
            raise Unreadable(f"its member {name} cannot be read")
        if not isinstance(row[0], str) or type(row[1]) is not int or not 0 < row[1] < 2**63:  # pyright: ignore[reportUnknownArgumentType]
            raise Unreadable(f"its member {name} cannot be read")
    return cast("list[list[Any]]", rows)
