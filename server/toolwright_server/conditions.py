"""What a filter asks of an entry, as a small tree: made by rpc/filters.py, asked in memory or compiled to SQL.

A comparison with a field that the entry does not have is false, and `!=` is the opposite of `=`: there is no third
answer beside true and false. Fields under `labels.` are the entry's labels.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

LABELS: Final = "labels."

# The value of an entry's field: text, seconds since the epoch, or None when the entry does not have it.
Value = str | float | None


class Relation(Enum):
    """How a field is compared. Order is asked of times only."""

    EQUAL = "="
    PREFIX = "=*"
    EXISTS = ":*"
    BEFORE = "<"
    NOT_AFTER = "<="
    AFTER = ">"
    NOT_BEFORE = ">="


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against one value. EXISTS asks whether the entry has the field at all; its value is empty."""

    field: str
    relation: Relation
    value: str | float = ""

    def holds(self, found: Value) -> bool:
        """Whether it is true of what the entry has."""
        if found is None:
            return False
        return _RELATIONS[self.relation](found, self.value)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class All:
    """Every part is true; without parts, always."""

    parts: tuple["Condition", ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part is true."""

    parts: tuple["Condition", ...]


Condition = Comparison | Not | All | Either

ALWAYS: Final = All()


def _there(found: Value, _: str | float) -> bool:
    return found is not None


def _starts(found: Value, value: str | float) -> bool:
    return isinstance(found, str) and isinstance(value, str) and found.startswith(value)


_RELATIONS: dict[Relation, Callable[..., bool]] = {
    Relation.EQUAL: operator.eq,
    Relation.PREFIX: _starts,
    Relation.EXISTS: _there,
    Relation.BEFORE: operator.lt,
    Relation.NOT_AFTER: operator.le,
    Relation.AFTER: operator.gt,
    Relation.NOT_BEFORE: operator.ge,
}


def matches(condition: Condition, value_of: Callable[[str], Value]) -> bool:
    """Whether the condition is true of an entry; `value_of` gives its fields by name."""
    match condition:
        case Comparison():
            return condition.holds(value_of(condition.field))
        case Not(part):
            return not matches(part, value_of)
        case All(parts):
            return all(matches(part, value_of) for part in parts)
        case Either(parts):
            return any(matches(part, value_of) for part in parts)


def demanded(condition: Condition) -> Iterator[Comparison]:
    """Comparisons that must all hold for the condition to be true: what an index can be used for."""
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, All):
        for part in condition.parts:
            yield from demanded(part)
