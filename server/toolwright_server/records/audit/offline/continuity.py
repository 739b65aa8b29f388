"""Whether the members of chains follow one another, in a file that has one chain after the other.

Names what is missing, doubled, out of place or exchanged. Where a line cannot be read it assumes the member that
belongs there, so that one changed byte is one problem.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .lines import Linked
from .report import Fault, Problem, Report


class Start(NamedTuple):
    """Where a chain begins in the file. `previous` None: its first line cannot be read."""

    sequence: int
    previous: bytes | None
    line: int


class _Gap(NamedTuple):
    first: int
    end: int
    line: int


class Continuity:
    """Feed it every member with `add` and every line that is none with `broken`; ask it after `close`."""

    def __init__(self, noun: str, report: Report) -> None:
        self.starts: dict[str, Start] = {}
        self.ends: dict[str, tuple[int, bytes]] = {}
        self.noun = noun
        self._report = report
        self._chain = ""
        self._expected = 1
        self._digest: bytes | None = None
        # The last member of this chain that something signed vouches for.
        self._vouched = 0
        self._gaps: list[_Gap] = []
        self._late: set[int] = set()
        # Lines that could not be read since the last one that could.
        self._broken: list[Problem] = []

    def add(self, member: Linked, line: int) -> bool:
        """Whether the member stands in its place."""
        if member.chain != self._chain and not self._begin(member, line):
            return False
        sequence = member.sequence
        if self._broken and self._expected - len(self._broken) <= sequence < self._expected:
            self._not_members(sequence)
        if sequence < self._expected:
            self._early(member, line)
            return False
        if sequence > self._expected:
            self._gaps.append(_Gap(self._expected, sequence, line))
        elif self._digest is not None and member.previous != self._digest:
            self._exchanged(sequence, line)
        self._broken.clear()
        self._expected, self._digest = sequence + 1, member.digest
        self.ends[member.chain] = sequence, member.digest
        return True

    def broken(self, line: int, why: str, fault: Fault = Fault.CHANGED) -> None:
        """A line that is no member: it takes the place of the one that belongs there."""
        says = f"{self.noun} {self._expected} was changed: {why}"
        self._broken.append(self._report.add(fault, line, says, self._chain, self._expected))
        self._expected += 1
        self._digest = None

    def vouched(self, sequence: int) -> None:
        """Something signed names this member."""
        self._vouched = sequence

    @property
    def trusted(self) -> int:
        """The last member of the present chain that something signed names; 0: none."""
        return self._vouched

    @property
    def present(self) -> str:
        """The chain whose members come now; empty before the first."""
        return self._chain

    def close(self) -> None:
        """The present chain has ended."""
        for first, end, line in self._gaps:
            late = sum(first <= sequence < end for sequence in self._late)
            if late == end - first:
                says = f"{self.noun} {first} stands behind {self.noun} {end}"
                self._report.add(Fault.REORDERED, line, says, self._chain, first)
                continue
            missing = next(sequence for sequence in range(first, end) if sequence not in self._late)
            count = end - first - late
            says = f"{self.noun} {missing}{f' and {count - 1} behind it' if count > 1 else ''} was removed"
            self._report.add(Fault.REMOVED, line, says, self._chain, missing)
        self._gaps.clear()
        self._late.clear()

    def _begin(self, member: Linked, line: int) -> bool:
        if member.chain < self._chain:
            # Chains stand in the order of their ids.
            says = f"{self.noun} {member.sequence} stands behind those of another chain"
            self._report.add(Fault.REORDERED, line, says, member.chain, member.sequence)
            return False
        self.close()
        first, previous = member.sequence, member.previous
        for problem in reversed(self._broken):
            # Unreadable lines before the first readable one of a chain are its own beginning, as far as it has one.
            if first == 1:
                break
            first, previous = first - 1, None
            problem.chain, problem.sequence = member.chain, first
            problem.says = f"{self.noun} {first} was changed: {problem.says.partition(': ')[2]}"
        self._broken.clear()
        self._chain, self._expected, self._digest, self._vouched = member.chain, member.sequence, None, 0
        self.starts[member.chain] = Start(first, previous, line)
        return True

    def _not_members(self, sequence: int) -> None:
        """The member that the unreadable lines were taken for is there: they were put in between."""
        for problem in self._broken[sequence - self._expected :]:
            problem.fault = Fault.INSERTED
            problem.says = f"before {self.noun} {sequence} stands a line that is no {self.noun}"
            problem.sequence = sequence
        self._expected = sequence

    def _early(self, member: Linked, line: int) -> None:
        sequence, start = member.sequence, self.starts[self._chain].sequence
        if sequence not in self._late and any(gap.first <= sequence < gap.end for gap in self._gaps):
            self._late.add(sequence)
        elif sequence < start:
            says = f"{self.noun} {sequence} stands behind {self.noun} {start}"
            self._report.add(Fault.REORDERED, line, says, self._chain, sequence)
            self.starts[self._chain] = Start(sequence, member.previous, line)
        else:
            self._report.add(Fault.INSERTED, line, f"there are two of {self.noun} {sequence}", self._chain, sequence)

    def _exchanged(self, sequence: int, line: int) -> None:
        before = sequence - 1
        if before == self._vouched:
            says = f"{self.noun} {sequence} was put in the place of another: it does not follow {self.noun} {before}"
            self._report.add(Fault.CHANGED, line, says, self._chain, sequence)
            return
        says = f"{self.noun} {before} was put in the place of another: {self.noun} {sequence} does not follow it"
        self._report.add(Fault.CHANGED, line - 1, says, self._chain, before)


class Demands:
    """What signed statements say is in chains: packed, as there may be millions."""

    WIDTH = 40

    def __init__(self) -> None:
        self.latest: dict[str, tuple[int, int]] = {}
        """By chain: the last sequence that is demanded, and when that was said (microseconds since the epoch)."""
        self._packed: dict[str, bytearray] = {}

    def add(self, chain: str, sequence: int, digest: bytes, time: int) -> None:
        """Entry `sequence` of this chain has this hash."""
        self._packed.setdefault(chain, bytearray()).extend(sequence.to_bytes(8, "big") + digest)
        last = self.latest.get(chain)
        if last is None or last[0] <= sequence:
            self.latest[chain] = sequence, time

    def of(self, chain: str) -> Sequence[tuple[int, bytes]]:
        """What is demanded of a chain, by sequence."""
        packed, width = bytes(self._packed.get(chain, b"")), self.WIDTH
        records = sorted({packed[at : at + width] for at in range(0, len(packed), width)})
        return [(int.from_bytes(record[:8], "big"), record[8:]) for record in records]
