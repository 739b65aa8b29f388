"""One table of a TOML file while it is read: takes its keys one by one, and notes what is wrong with them, by line."""

import difflib
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar, cast

E = TypeVar("E", bound=StrEnum)

_HEADER = re.compile(r"\s*\[\[?\s*([\w-]+)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))\s*=""")
_NAME_LIMIT = 128


class Lines:
    """Where keys stand in a text. Found without parsing: right for files as people write them, absent otherwise."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._lines: dict[tuple[str, int, str], int] = {}
        header, index = "", 0
        seen: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if found := _HEADER.match(line):
                header = found[1]
                index = seen[header] = seen.get(header, -1) + 1
                self._lines[header, index, ""] = number
            elif found := _KEY.match(line):
                self._lines.setdefault((header, index, found[1] or found[2] or found[3]), number)

    def at(self, header: str, index: int) -> Callable[[str], str]:
        """Says where a key of the `index`-th table under `header` stands; the empty key is the table itself."""

        def place(key: str) -> str:
            number = self._lines.get((header, index, key)) or self._lines.get((header, index, ""))
            return f"{self._name}, line {number}" if number else self._name

        return place


class Table:
    """The keys of one table. `place` says where one stands, `who` is what mistakes begin with."""

    def __init__(self, given: Mapping[str, Any], place: Callable[[str], str], who: str, mistakes: list[str]) -> None:
        self.given = given
        self._place = place
        self._who = who
        self._mistakes = mistakes
        self._known: list[str] = []

    def refuse(self, key: str, why: str) -> None:
        """Note a mistake."""
        self._mistakes.append(f"{self._place(key)}: {self._who}{key}{' ' if key else ''}{why}")

    def refuse_others(self) -> None:
        """Note every key that nobody has taken."""
        for key in self.given:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1, 0)
                self.refuse(key, f"is not known; the nearest is {near[0]}")

    def taken(self, key: str) -> Any:
        """The value as it is, None when it is absent."""
        self._known.append(key)
        return self.given.get(key)

    def text(self, key: str, *, required: bool = False) -> str:
        """A name; empty when it is absent or wrong."""
        value = self.taken(key)
        if value is None and not required:
            return ""
        if value is None:
            self.refuse(key, "is missing")
        elif not isinstance(value, str) or not value or len(value) > _NAME_LIMIT or not value.isprintable():
            self.refuse(key, f"must be a text of 1 to {_NAME_LIMIT} printable characters")
        else:
            return value
        return ""

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.taken(key)
        if value is not None and not isinstance(value, bool):
            self.refuse(key, "must be true or false")
        return value if isinstance(value, bool) else default

    def number(self, key: str, missing: str) -> Decimal:
        """A number; 1 when it is absent or none, which is noted."""
        value = self.taken(key)
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and Decimal(value).is_finite():
            return Decimal(value)
        self.refuse(key, missing if value is None else f"must be a number, not {value!r}")
        return Decimal(1)

    def one_of(self, key: str, words: tuple[str, ...], default: str | None = None) -> str:
        """One of some words; the first when it is none of them, which is noted."""
        value = self.taken(key)
        if value is None and default is not None:
            return default
        if value in words:
            return value
        wanted = f"{', '.join(words[:-1])} or {words[-1]}"
        self.refuse(key, f"is missing: {wanted}" if value is None else f"must be {wanted}, not {value!r}")
        return words[0]

    def choice(self, key: str, of: type[E], default: E | None = None) -> E:
        """A member of an enumeration, by its value."""
        return of(self.one_of(key, tuple(of), default))

    def table(self, key: str) -> dict[str, Any]:
        """A table; empty when it is absent."""
        value = self.taken(key)
        if value is not None and not isinstance(value, dict):
            self.refuse(key, f"must be a table, [{key}]")
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    def tables(self, key: str) -> list[dict[str, Any]]:
        """An array of tables; empty when it is absent."""
        value = self.taken(key)
        found = cast("list[Any]", value) if isinstance(value, list) else []
        if (value is not None and not isinstance(value, list)) or not all(isinstance(each, dict) for each in found):
            self.refuse(key, f"must be tables, [[{key}]] each")
            return []
        return found
