r"""Reads the filter of a List rpc: a subset of AIP-160. Knows nothing of where entries are kept.

    state = FAILED AND (tool = "crm.*" OR labels.team = sales) AND NOT create_time < "2026-01-01T00:00:00Z"

As in AIP-160, OR binds tighter than AND: `a AND b OR c` is `a AND (b OR c)`. `field:*` asks whether there is a value,
`labels:KEY` whether there is such a label. A trailing `*` stands for any rest, `\*` in quotes for the character.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from toolwright_server.conditions import ALWAYS, LABELS, All, Comparison, Condition, Either, Not, Relation
from toolwright_server.errors import ToolwrightError, invalid

LENGTH_LIMIT: Final = 4_096
CONDITIONS_LIMIT: Final = 64
DEPTH_LIMIT: Final = 16

_SPACE = re.compile(r"\s*")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_FIELD = re.compile(rf"[A-Za-z_]\w*(?:\.(?:{_QUOTED}|[\w./-]+))?", re.DOTALL | re.ASCII)
_OPERATOR = re.compile(r"!=|<=|>=|=|<|>|:")
_VALUE = re.compile(rf'{_QUOTED}|[^\s"()=<>!:][^\s"()]*', re.DOTALL)
_WORD = re.compile(r"(AND|OR|NOT)(?=[\s()]|$)")
_ORDERS = {"<": Relation.BEFORE, "<=": Relation.NOT_AFTER, ">": Relation.AFTER, ">=": Relation.NOT_BEFORE}

# What a field may be compared with: turns the text of a value into what entries have. Raises ValueError with words.
ReadValue = Callable[[str], str | float]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a list can be filtered by. Only times are `ordered`, and only free texts have `prefixes`."""

    read: ReadValue = str
    ordered: bool = False
    prefixes: bool = True


def choice(names: Iterable[str], prefix: str) -> Field:
    """One of the names of an enum, with the enum's prefix or without."""
    known = tuple(names)

    def read(text: str) -> str:
        name = text.removeprefix(prefix)
        if name not in known:
            raise ValueError(f"{text[:64]!r} is not one of {', '.join(known)}")
        return name

    return Field(read, prefixes=False)


def _time(text: str) -> float:
    try:
        # Years below 1000 would be read as well, but not written as such by anybody.
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:64]!r} is no time as in RFC 3339, such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text[:64]!r} has no time zone; write 2026-01-31T12:00:00Z or +01:00 at its end")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


TEXT: Final = Field()
TIME: Final = Field(_time, ordered=True, prefixes=False)


def parse(text: str, fields: Mapping[str, Field], *, labels: bool = True) -> Condition:
    """The condition that a filter asks for; empty: ALWAYS. Raises INVALID_ARGUMENTS naming the place."""
    if len(text) > LENGTH_LIMIT:
        raise invalid("filter", f"has {len(text)} characters; at most {LENGTH_LIMIT} are accepted")
    if "\0" in text:
        raise invalid("filter", f"has a NUL character at character {text.index(chr(0))}")
    return _Parser(text, fields, labels=labels).whole()


class _Parser:
    """Recursive descent over one filter."""

    def __init__(self, text: str, fields: Mapping[str, Field], *, labels: bool) -> None:
        self._text = text
        self._fields = fields
        self._labels = labels
        self._position = 0
        self._depth = 0
        self._count = 0

    def whole(self) -> Condition:
        self._skip()
        if self._ended:
            return ALWAYS
        condition = self._all()
        if not self._ended:
            raise self._expected("AND or OR")
        return condition

    def _all(self) -> Condition:
        parts = [self._either()]
        while self._took_word("AND"):
            parts.append(self._either())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _either(self) -> Condition:
        parts = [self._term()]
        while self._took_word("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _term(self) -> Condition:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise invalid("filter", f"is nested deeper than {DEPTH_LIMIT} levels at character {self._position}")
        try:
            if self._took_word("NOT"):
                return Not(self._term())
            if self._took("("):
                inner = self._all()
                if not self._took(")"):
                    raise self._expected("AND, OR or )")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        self._count += 1
        if self._count > CONDITIONS_LIMIT:
            raise invalid("filter", f"has more than {CONDITIONS_LIMIT} conditions")
        start = self._position
        name = self._matched(_FIELD)
        if name is None or _WORD.fullmatch(name):
            raise self._expected('field = "value"', start)
        sign = self._matched(_OPERATOR)
        if sign is None:
            raise self._expected('field = "value"', start)
        value = self._matched(_VALUE)
        if value is None:
            raise self._expected(f"a value behind {name} {sign}")
        if name == "labels" and self._labels:
            if sign != ":":
                raise invalid("filter", "labels are asked for as labels:KEY or labels.KEY = value")
            key, starred = _unquoted(value)
            return Comparison(LABELS + key + "*" * starred, Relation.EXISTS)
        return self._compared(name, sign, value)

    def _compared(self, name: str, sign: str, value: str) -> Condition:
        field = self._field(name)
        key = _label_key(name) if name.startswith(LABELS) else name
        text, is_prefix = _unquoted(value)
        if sign == ":" and is_prefix and not text:
            if field.prefixes and not key.startswith(LABELS):
                # A text that is not set is empty; a label may be empty and yet be there.
                return Not(Comparison(key, Relation.EQUAL, ""))
            return Comparison(key, Relation.EXISTS)
        if sign in _ORDERS:
            if not field.ordered:
                raise invalid("filter", f"{name} has no order; compare it with =, != or :")
            return Comparison(key, _ORDERS[sign], self._read(field, name, text + "*" * is_prefix))
        if is_prefix and field.prefixes:
            found = Comparison(key, Relation.PREFIX, text)
        else:
            found = Comparison(key, Relation.EQUAL, self._read(field, name, text + "*" * is_prefix))
        return Not(found) if sign == "!=" else found

    def _field(self, name: str) -> Field:
        if self._labels and name.startswith(LABELS):
            return TEXT
        if name not in self._fields:
            known = ", ".join(self._fields) + (" or labels.KEY" if self._labels else "")
            raise invalid("filter", f"{name[:64]} cannot be filtered by; use {known}")
        return self._fields[name]

    @staticmethod
    def _read(field: Field, name: str, text: str) -> str | float:
        try:
            return field.read(text)
        except ValueError as error:
            raise invalid("filter", f"{name}: {error}") from None

    def _matched(self, pattern: "re.Pattern[str]") -> str | None:
        found = pattern.match(self._text, self._position)
        if found is None:
            return None
        self._position = found.end()
        self._skip()
        return found.group()

    def _took_word(self, word: str) -> bool:
        found = _WORD.match(self._text, self._position)
        return found is not None and found.group() == word and self._matched(_WORD) is not None

    def _took(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._position):
            return False
        self._position += len(sign)
        self._skip()
        return True

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._position)
        assert found is not None
        self._position = found.end()

    @property
    def _ended(self) -> bool:
        return self._position == len(self._text)

    def _expected(self, what: str, position: int | None = None) -> ToolwrightError:
        place = self._position if position is None else position
        return invalid("filter", f"expected {what} at character {place}: {self._text[place : place + 24]!r}")


def _label_key(name: str) -> str:
    key = name.removeprefix(LABELS)
    return LABELS + (_unquoted(key)[0] if key.startswith('"') else key)


def _unquoted(value: str) -> tuple[str, bool]:
    """The text that is meant, without a trailing `*`, and whether there was one that is not escaped."""
    if not value.startswith('"'):
        return (value[:-1], True) if value.endswith("*") else (value, False)
    inside = value[1:-1]
    # A star counts when an even number of backslashes, each pair being one, stands before it.
    starred = re.search(r"(?<!\\)(?:\\\\)*\*\Z", inside) is not None
    return re.sub(r"\\(.)", r"\1", inside[:-1] if starred else inside, flags=re.DOTALL), starred
