import base64
import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.rpc import lists

FIELDS = ("state", "tool", "user_id")

KEYS = st.sampled_from(FIELDS) | st.from_regex(r"labels\.[A-Za-z0-9_./-]{1,20}", fullmatch=True)
# A line break cannot be escaped, everything else can.
VALUES = st.text().map(lambda text: text.replace("\n", " "))
SPACES = st.sampled_from(["", " ", "  ", "\t"])


def refused(text: str) -> str:
    with pytest.raises(ToolwrightError) as caught:
        lists.parse_filter(text, FIELDS)
    assert caught.value.failure.reason is Reason.INVALID_ARGUMENTS
    assert caught.value.failure.violations[0].field == "filter"
    return str(caught.value)


def quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


@given(st.dictionaries(KEYS, VALUES, max_size=5), SPACES)
def test_what_is_written_as_a_filter_is_read_as_conditions(conditions: dict[str, str], space: str) -> None:
    text = " AND ".join(f"{space}{key}{space}={space}{quoted(value)}{space}" for key, value in conditions.items())
    if len(text) <= lists.FILTER_LIMIT:
        assert lists.parse_filter(text, FIELDS) == conditions


@given(st.text() | st.text(alphabet='satelbox.="\\ ANDlabels._', max_size=40))
def test_any_text_gives_conditions_or_a_refusal(text: str) -> None:
    with contextlib.suppress(ToolwrightError):
        found = lists.parse_filter(text, FIELDS)
        assert all(key in FIELDS or key.startswith("labels.") for key in found)


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_filter_has_no_conditions(text: str) -> None:
    assert lists.parse_filter(text, FIELDS) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('colour = "red"', "colour cannot be filtered by; use state, tool, user_id or labels.KEY"),
        ('state = "A" state = "B"', "expected AND at character 12"),
        ('state = "A" AND state = "B"', "state is named twice"),
        ('state = "A" AND', "expected field"),
        ('state = "A" OR tool = "b"', "expected AND at character 12"),
        ('state = "A" ANDtool = "b"', "expected AND"),
        ('state = "A', "expected field"),
        ('state != "A"', "expected field"),
        ("state =", "expected field"),
        ('= "A"', "expected field"),
        ('labels. = "A"', "expected field"),
        ('state.x = "A"', "state.x cannot be filtered by"),
        ("x" * 4_097, "has 4097 characters; at most 4096 are accepted"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_the_place(text: str, said: str) -> None:
    assert said in refused(text)


def test_values_need_quotes_only_for_spaces_and_quotes() -> None:
    assert lists.parse_filter("state=RUNNING AND tool=crm.*", FIELDS) == {"state": "RUNNING", "tool": "crm.*"}


def test_labels_are_split_from_fields() -> None:
    conditions = {"state": "RUNNING", "labels.team": "a", "labels.x.y": "b"}
    assert lists.split_labels(conditions) == ({"state": "RUNNING"}, {"team": "a", "x.y": "b"})


@given(st.text(min_size=1), st.text())
def test_a_page_token_leads_behind_the_entry_that_it_was_made_of(last: str, filter_text: str) -> None:
    assert lists.page_start(lists.page_token(last, filter_text), filter_text) == last


def test_no_token_is_the_first_page() -> None:
    assert lists.page_start("", 'state = "A"') == ""


@given(st.text(), st.text(), st.text())
def test_a_page_token_belongs_to_its_filter(last: str, filter_text: str, other: str) -> None:
    if filter_text == other:
        return
    with pytest.raises(ToolwrightError, match="belongs to another filter"):
        lists.page_start(lists.page_token(last, filter_text), other)


@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_a_made_up_page_token_is_refused(token: str) -> None:
    with pytest.raises(ToolwrightError) as caught:
        lists.page_start(token, "")
    assert caught.value.failure.reason is Reason.INVALID_ARGUMENTS
    assert caught.value.failure.violations[0].field == "page_token"


@given(st.integers(min_value=0, max_value=7), st.integers(min_value=1, max_value=255))
def test_a_page_token_whose_seal_was_changed_is_refused(position: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(lists.page_token("last", "")))
    raw[position] ^= change
    with pytest.raises(ToolwrightError):
        lists.page_start(base64.urlsafe_b64encode(raw).decode(), "")


@given(st.integers(min_value=1, max_value=3))
def test_a_page_token_that_was_cut_is_refused(cut: int) -> None:
    with pytest.raises(ToolwrightError):
        lists.page_start(lists.page_token("last", "")[:-cut], "")


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1_000, 1_000)])
def test_a_page_size_is_taken_as_asked_and_0_means_the_default(asked: int, size: int) -> None:
    assert lists.page_size(asked, 50) == size


@pytest.mark.parametrize("asked", [-1, 1_001, -(2**31)])
def test_a_page_size_beyond_the_limits_is_refused(asked: int) -> None:
    with pytest.raises(ToolwrightError, match=f"{asked} lies outside"):
        lists.page_size(asked, 50)
