"""The place of what JSON cannot hold is found in whatever a tool may return."""

import dataclasses
import math
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.backends.unfit import unfit


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
