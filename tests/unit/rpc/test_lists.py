import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.rpc import lists


@given(st.text(min_size=1), st.text())
def test_a_page_token_leads_behind_the_entry_that_it_was_made_of(last: str, filter_text: str) -> None:
    assert lists.page_start(lists.page_token(last, filter_text), filter_text) == last


def test_no_token_is_the_first_page() -> None:
    assert lists.page_start("", 'state = "A"') == ""


@given(st.text(), st.text(), st.text())
def test_a_page_token_belongs_to_its_filter(last: str, filter_text: str, other: str) -> None:
    if filter_text == other:
        return
    with pytest.raises(ToolwrightError, match="belongs to another list or filter"):
        lists.page_start(lists.page_token(last, filter_text), other)


@given(st.text(), st.lists(st.text(max_size=5), max_size=3), st.lists(st.text(max_size=5), max_size=3))
def test_a_page_token_belongs_to_its_list(last: str, asked: list[str], other: list[str]) -> None:
    token = lists.page_token(last, *asked)
    assert lists.page_start(token, *asked) == last
    if asked != other:
        with pytest.raises(ToolwrightError, match="belongs to another list"):
            lists.page_start(token, *other)


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
