"""The place of what JSON cannot hold is found in whatever a tool may return."""

import dataclasses
import itertools
import math
from collections import deque
from decimal import Decimal
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.backends.unfit import holds_iterator, unfit


@dataclasses.dataclass
class Row:
    name: str
    amount: float


class Sheet(pydantic.BaseModel):
    rows: list[Any]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Sheet(rows=[Row("fine", 1.0), Row("odd", math.inf)]), "rows[1].amount"),
        ({"a": ({"b": [2**64]},)}, "a[0].b[0]"),
        ({"\udc80": 1}, ""),
        ({"a": {1, 2, object()}}, "a"),
        (object(), ""),
    ],
)
def test_the_place_is_named(value: Any, place: str) -> None:
    found = unfit(value)
    assert found is not None
    assert found[0].startswith(place)
    assert "0x" not in found[1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


@given(JSON)
def test_nothing_is_wrong_with_json(value: Any) -> None:
    assert unfit(value) is None


def numbers() -> Any:
    yield 1


class Open(pydantic.BaseModel, extra="allow"):
    """May hold anything."""


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
CIRCLE.append(itertools.count())


@pytest.mark.parametrize(
    "value",
    [
        numbers(),
        iter([1]),
        {"a": [({"b": map(int, "1")},)]},
        {1: {"x"}, 2: deque([zip("a", "b", strict=True)])},
        Sheet(rows=[Row("odd", itertools.count())]),  # type: ignore[arg-type]
        Open(more=numbers()),  # type: ignore[call-arg]
        {(1, 2): 0, "a": numbers()},
        [2**70, "\udc80", numbers()],
        CIRCLE,
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_iterator_is_found_wherever_it_is(value: Any) -> None:
    assert holds_iterator(value)


def test_looking_for_an_iterator_uses_none_up() -> None:
    one = numbers()
    assert holds_iterator([one])
    assert next(one) == 1


@pytest.mark.parametrize(
    "value",
    [
        Sheet(rows=[Row("fine", 1.0)]),
        {"a": ({1}, Decimal(1), 2**70)},
        [[object()]],
        deque([1]),
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_be_read_twice_is_no_iterator(value: Any) -> None:
    assert not holds_iterator(value)


@given(JSON)
def test_json_holds_none(value: Any) -> None:
    assert not holds_iterator(value)
