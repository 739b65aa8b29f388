import io
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.telemetry.frames import encode_spans, framed, read_frames

_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=200), max_size=10), st.integers(0, 3))
def test_frames_are_read_as_they_were_written_and_a_cut_one_is_left_out(payloads: list[bytes], cut: int) -> None:
    stream = b"".join(framed(payload) for payload in payloads)
    whole = list(read_frames(io.BytesIO(stream)))
    assert whole == payloads
    if cut and payloads:
        assert list(read_frames(io.BytesIO(stream[:-cut]))) == payloads[:-1]


@given(st.dictionaries(st.text(st.characters()), _VALUES, max_size=4))
def test_spans_are_encoded_whatever_a_tool_wrote_into_them(attributes: dict[str, Any]) -> None:
    decoded = orjson.loads(encode_spans([("name", attributes)]))
    assert decoded["spans"][0][0] == "name"
    assert len(decoded["spans"][0][1]) <= len(attributes)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (2**63, str(2**63)),
        (-(2**63), -(2**63)),
        (b"bytes", "Ynl0ZXM="),
        ("\ud800", "?"),
        (1.5, 1.5),
        ((1, 2), [1, 2]),
        ({1: "one"}, {"1": "one"}),
        (True, True),
    ],
)
def test_values_that_json_or_otlp_cannot_carry_become_plain(value: object, sent: object) -> None:
    # The surrogate forces the careful way for the whole batch.
    assert orjson.loads(encode_spans([({"a": value}, "\ud800")]))["spans"][0][0] == {"a": sent}


def test_an_attribute_that_contains_itself_does_no_harm() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert orjson.loads(encode_spans([({"a": circle},)]))
