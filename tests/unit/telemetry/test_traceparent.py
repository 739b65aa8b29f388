import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.telemetry import traceparent

HEX = "0123456789abcdef"
TRACE_IDS = st.text(HEX, min_size=32, max_size=32).filter(lambda text: set(text) != {"0"})
SPAN_IDS = st.text(HEX, min_size=16, max_size=16).filter(lambda text: set(text) != {"0"})
FLAGS = st.integers(0, 255)
# The standard's own grammar, written down a second time on purpose.
VALID = re.compile(r"(?a:00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2}))")


@given(TRACE_IDS, SPAN_IDS, FLAGS)
def test_every_valid_header_is_read_and_written_back(trace_id: str, span_id: str, flags: int) -> None:
    parent = traceparent.parse(f"00-{trace_id}-{span_id}-{flags:02x}")
    assert parent is not None
    assert parent == (trace_id, span_id, flags & 0x03)
    assert traceparent.parse(traceparent.render(*parent)) == parent


@given(TRACE_IDS, SPAN_IDS, FLAGS, st.integers(0, 54), st.characters())
def test_one_wrong_character_makes_the_header_invalid(
    trace_id: str, span_id: str, flags: int, position: int, replacement: str
) -> None:
    header = f"00-{trace_id}-{span_id}-{flags:02x}"
    damaged = header[:position] + replacement + header[position + 1 :]
    if VALID.fullmatch(damaged) and "0" * 32 not in damaged and f"-{'0' * 16}-" not in damaged:
        assert traceparent.parse(damaged) is not None
    elif position > 1:
        assert traceparent.parse(damaged) is None


@given(st.text(max_size=80))
def test_no_text_whatever_raises(header: str) -> None:
    traceparent.parse(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{'0' * 32}-{'a' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"ff-{'a' * 32}-{'b' * 16}-01",
        f"00-{'A' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'b' * 16}-01-more",
        f"00-{'a' * 32}-{'b' * 16}-01 ",
        f"00-{'a' * 32}-{'b' * 16}-1",
        f"00-{'a' * 32}-{'b' * 16}-01\n",
        f"cc-{'a' * 32}-{'b' * 16}-01more",
        f"00-{'٣' * 32}-{'b' * 16}-01",
    ],
)
def test_what_the_standard_forbids_is_not_read(header: str) -> None:
    assert traceparent.parse(header) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert traceparent.parse(f"cc-{'a' * 32}-{'b' * 16}-01-what-the-future-will-be-like") == ("a" * 32, "b" * 16, 1)
