"""What a verification found. Fit for people (`says`) and for programs (the other fields)."""

from dataclasses import dataclass, field
from enum import Enum

# So many are told of; all are counted.
TOLD_LIMIT = 100


class Fault(Enum):
    """What was done to the trail, as far as it shows."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    """The end of the file, or of a chain in it, is missing."""
    UNTRUSTED = "untrusted"
    """Signed with a key that was not given."""


@dataclass(slots=True)
class Problem:
    """One thing that is wrong. `line` counts from 1; `chain` is empty and `sequence` 0 where it is about none."""

    fault: Fault
    line: int
    says: str
    chain: str = ""
    sequence: int = 0


@dataclass(slots=True)
class Report:
    """The outcome. `unsigned` counts entries that no checkpoint covers; times are microseconds since the epoch."""

    entries: int = 0
    checkpoints: int = 0
    chains: int = 0
    unsigned: int = 0
    problem_count: int = 0
    # The first ones, in the order of the file.
    problems: list[Problem] = field(default_factory=list[Problem])
    # None: all tenants.
    tenant: str | None = None
    export_time: int = 0

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem_count

    def add(self, fault: Fault, line: int, says: str, chain: str = "", sequence: int = 0) -> Problem:
        """Note a problem; the caller may still correct what it says."""
        problem = Problem(fault, line, says, chain, sequence)
        self.problem_count += 1
        if len(self.problems) < TOLD_LIMIT:
            self.problems.append(problem)
        return problem

    def sort(self) -> None:
        """Bring the problems into the order of the file: some are only known later."""
        self.problems.sort(key=lambda problem: problem.line)
