"""Verifies an export line by line, in memory that grows with its checkpoints and not with its entries."""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from . import lines
from .continuity import Continuity
from .lines import Keys, Linked, Unreadable, Untrusted, number_of, text_of
from .report import Fault, Report
from .statements import Statements, check_starts

FORMAT = 1

# Checkpoints that a log holds: by chain and sequence, the hash and the time in microseconds.
Logged = Mapping[tuple[str, int], tuple[bytes, int]]


class Verifier:
    """`feed` it every line without its line end, then ask `finish`. Never raises for what a file holds.

    `whole` False: there is neither header nor trailer, as when a trail is read from the database itself; `tenant` then
    says whose it is. `logged` are checkpoints that must be there.
    """

    def __init__(
        self, keys: Keys, *, tenant: str | None = None, whole: bool = True, logged: Logged | None = None
    ) -> None:
        self.report = Report(tenant=tenant)
        self._keys = keys
        self._whole = whole
        self._logged = logged or {}
        self._line = 0
        self._digest = hashlib.sha256()
        self._checkpoints = Continuity("checkpoint", self.report)
        self._entries = Continuity("entry", self.report)
        self._statements = Statements(self.report, tenant)
        self._judged = self._concluded = self._ended = False
        self._tenant: str | None = None
        self._demanded: list[tuple[int, bytes]] = []
        self._next = 0
        self._read = {"checkpoint": self._checkpoint, "entry": self._entry, "trailer": self._trailer}

    def feed(self, line: bytes) -> None:
        """The next line."""
        self._line += 1
        kind = lines.kind_of(line)
        if self._ended:
            self.report.add(Fault.INSERTED, self._line, "there is a line behind the trailer")
        elif self._line == 1 and self._whole:
            self._header(line)
        elif kind in self._read:
            self._read[kind](line)
        else:
            self._members().broken(self._line, "the line cannot be read")
        self._digest.update(line)
        self._digest.update(b"\n")

    def finish(self, *, complete: bool = True) -> Report:
        """What was found. `complete`: the file ended in a line end."""
        report = self.report
        self._conclude()
        if self._whole and not (self._ended and complete):
            report.add(Fault.TRUNCATED, self._line + 1, f"the file ends without its trailer, {self._last()}")
        report.chains = len(self._entries.ends)
        report.sort()
        return report

    def _conclude(self) -> None:
        """The entries are over."""
        self._judge()
        if self._concluded:
            return
        self._concluded = True
        self._close_chain()
        self._entries.close()
        check_starts(self._entries, "entry", self._statements.anchors, self.report)
        self._missing_chains()

    def _header(self, line: bytes) -> None:
        report = self.report
        try:
            said = lines.parsed(line)
            known = lines.kind_of(line) == "export" and number_of(said, "format") == FORMAT
            report.tenant = None if said.get("tenant") is None else text_of(said, "tenant")
            report.export_time = number_of(said, "time")
            self._statements = Statements(report, report.tenant)
        except Unreadable as error:
            report.add(Fault.CHANGED, self._line, f"the first line was changed: {error}")
            return
        if not known:
            report.add(Fault.CHANGED, self._line, f"the first line is not that of an export of format {FORMAT}")

    def _checkpoint(self, line: bytes) -> None:
        self.report.checkpoints += 1
        try:
            checkpoint = lines.checkpoint(line, self._keys)
            if self._judged:
                self._out_of_place("checkpoint", checkpoint)
            elif self._checkpoints.add(checkpoint, self._line):
                self._statements.read(checkpoint, self._line)
        except Unreadable as error:
            self._members().broken(self._line, str(error))
        except Untrusted as error:
            self._members().broken(self._line, str(error), Fault.UNTRUSTED)

    def _entry(self, line: bytes) -> None:
        self._judge()
        self.report.entries += 1
        try:
            entry = lines.entry(line)
            tenant = text_of(entry.said, "tenant")
        except Unreadable as error:
            self._entries.broken(self._line, str(error))
            return
        before = self._entries.present
        if entry.chain != before and before:
            self._close_chain()
        if not self._entries.add(entry, self._line):
            return
        if entry.chain != before:
            self._tenant, self._next = tenant, 0
            self._demanded = list(self._statements.demands.of(entry.chain))
            self._check_origin(entry, tenant)
        elif tenant != self._tenant:
            says = f"entry {entry.sequence} is of another tenant than its chain"
            self.report.add(Fault.INSERTED, self._line, says, entry.chain, entry.sequence)
        final = self._statements.final.get(entry.chain, entry.sequence)
        if entry.sequence > final:
            says = f"entry {entry.sequence} was added behind entry {final}, the last one that its server wrote"
            self.report.add(Fault.INSERTED, self._line, says, entry.chain, entry.sequence)
        self._compare(entry)

    def _check_origin(self, entry: Linked, tenant: str) -> None:
        if self.report.tenant is not None and tenant != self.report.tenant:
            says = f"a chain of tenant {tenant[:64]!r} is in the export of {self.report.tenant[:64]!r}"
            self.report.add(Fault.INSERTED, self._line, says, entry.chain, entry.sequence)
        if entry.sequence > 1:
            return
        facts = entry.said.get("facts")
        origin = cast("dict[str, Any]", facts) if isinstance(facts, dict) else {}
        if entry.chain != lines.chain_id(tenant, origin.get("server", ""), origin.get("epoch", 0)):
            self.report.add(Fault.INSERTED, self._line, "the chain is not the one it says it is", entry.chain, 1)

    def _compare(self, entry: Linked) -> None:
        demanded = self._demanded
        while self._next < len(demanded) and demanded[self._next][0] <= entry.sequence:
            sequence, digest = demanded[self._next]
            self._next += 1
            if sequence < entry.sequence:
                continue
            if digest == entry.digest:
                self._entries.vouched(sequence)
                continue
            first = self._entries.trusted + 1
            says = (
                f"entry {first} was changed"
                if first == sequence
                else (f"entry {first} or one behind it, up to {sequence}, was changed")
            )
            says += f", and the hashes made anew: entry {sequence} is not the one that was signed"
            self.report.add(Fault.CHANGED, self._line, says, entry.chain, first)

    def _close_chain(self) -> None:
        chain = self._entries.present
        if chain not in self._entries.ends:
            return
        last, _ = self._entries.ends[chain]
        signed, _ = self._statements.demands.latest.get(chain, (0, 0))
        if signed > last:
            behind = f", and {signed - last - 1} behind it" if signed > last + 1 else ""
            says = f"entry {last + 1} was removed{behind}: the end of the chain is missing"
            self.report.add(Fault.TRUNCATED, self._line, says, chain, last + 1)
        else:
            self.report.unsigned += last - max(signed, self._entries.starts[chain].sequence - 1)

    def _missing_chains(self) -> None:
        for chain, (sequence, time) in sorted(self._statements.demands.latest.items()):
            pruned = self._statements.anchors.get(chain, (0, b""))[0] >= sequence or time < self._statements.horizon
            if chain not in self._entries.starts and not pruned:
                says = f"the whole chain was removed: entries 1 to {sequence}"
                self.report.add(Fault.REMOVED, self._line, says, chain, 1)

    def _judge(self) -> None:
        """The checkpoints are over."""
        if self._judged:
            return
        self._judged = True
        self._checkpoints.close()
        self._statements.judge(self._checkpoints)
        until = self.report.export_time
        for (chain, sequence), (digest, time) in sorted(self._logged.items()):
            found = self._statements.digest(chain, sequence)
            if found is not None and found != digest:
                says = f"checkpoint {sequence} is not the one that was logged"
                self.report.add(Fault.CHANGED, self._line, says, chain, sequence)
            elif found is None and self._statements.horizon <= time < until:
                says = f"checkpoint {sequence}, which was logged, was removed"
                self.report.add(Fault.REMOVED, self._line, says, chain, sequence)

    def _trailer(self, line: bytes) -> None:
        self._conclude()
        self._ended = True
        report = self.report
        try:
            said = lines.parsed(lines.signed(line, self._keys))
            counted = number_of(said, "entries"), number_of(said, "checkpoints")
            self._compare_ends(said)
            if counted != (report.entries, report.checkpoints) and report.valid:
                says = (
                    f"the trailer counts {counted[0]} entries and {counted[1]} checkpoints, which are not what is here"
                )
                fewer = report.entries + report.checkpoints < sum(counted)
                report.add(Fault.REMOVED if fewer else Fault.INSERTED, self._line, says)
            if said.get("digest") != self._digest.hexdigest() and report.valid:
                report.add(Fault.CHANGED, self._line, "the file is not as it was when its trailer was signed")
        except Unreadable as error:
            report.add(Fault.CHANGED, self._line, f"the trailer was changed: {error}")
        except Untrusted as error:
            report.add(Fault.UNTRUSTED, self._line, f"the trailer cannot be trusted: {error}")

    def _compare_ends(self, said: dict[str, Any]) -> None:
        """What the trailer says of each chain: finds what was dropped behind the last checkpoint."""
        for chain, _first, last, digest in _ends(said):
            members = self._checkpoints if chain in self._checkpoints.ends else self._entries
            sequence, found = members.ends.get(chain, (0, b""))
            told = self._statements.demands.latest.get(chain, (0, 0))[0] > sequence
            noun, behind = members.noun, last - sequence - 1
            if sequence < last and not told:
                says = f"{noun} {sequence + 1} was removed{f', and {behind} behind it' if behind else ''}: "
                says += f"the trailer names {noun} {last}"
                self.report.add(Fault.TRUNCATED, self._line, says, chain, sequence + 1)
            elif sequence == last and found.hex() != digest:
                says = f"{noun} {sequence} is not the one that the trailer names"
                self.report.add(Fault.CHANGED, self._line, says, chain, sequence)

    def _members(self) -> Continuity:
        return self._entries if self._judged else self._checkpoints

    def _out_of_place(self, noun: str, member: Linked) -> None:
        says = f"{noun} {member.sequence} stands behind the entries"
        self.report.add(Fault.REORDERED, self._line, says, member.chain, member.sequence)

    def _last(self) -> str:
        members = self._members()
        end = members.ends.get(members.present)
        return "behind its first line" if end is None else f"behind {members.noun} {end[0]} of chain {members.present}"


def _ends(said: dict[str, Any]) -> list[tuple[str, int, int, str]]:
    """The ends of chains in a trailer. Raises Unreadable."""
    try:
        return [(str(chain), int(first), int(last), str(digest)) for chain, first, last, digest in said["chains"]]
    except (KeyError, TypeError, ValueError):
        raise Unreadable("its chains cannot be read") from None
