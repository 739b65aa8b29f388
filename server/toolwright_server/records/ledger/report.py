"""What a verification of the ledger finds. A fault is data: nothing is corrected here."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PROBLEM_LIMIT: Final = 100


class Fault(StrEnum):
    """What is wrong; the words are for people, with the place put in front."""

    UNBALANCED = "unbalanced"
    MISSING = "missing"
    BALANCE = "balance"
    NEGATIVE = "negative"
    HELD = "held"
    ORPHAN = "orphan"


_SAYS: Final = {
    Fault.UNBALANCED: "the entries of this transaction sum to {number} micros, not to zero",
    Fault.MISSING: "{number} transactions up to the last one of this tenant are not there",
    Fault.BALANCE: "the balance of this account is {number} micros away from the sum of its entries",
    Fault.NEGATIVE: "the balance of this account is {number} micros",
    Fault.HELD: "the open holds are {number} micros away from the balance of this account",
    Fault.ORPHAN: "{number} micros are held for this execution, which neither runs nor has an unknown outcome",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: with which account, transaction or execution (`place`), and by how much."""

    tenant: str
    fault: Fault
    place: str
    number: int

    @property
    def says(self) -> str:
        """In words."""
        return _SAYS[self.fault].format(number=self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How much was verified, what is held, and what is wrong: the first 100."""

    tenants: int
    transactions: int
    entries: int
    holds: int
    unknown_holds: int
    held_micros: int
    problems: Sequence[Problem]

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
