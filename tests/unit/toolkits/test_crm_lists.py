from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolwright_server import ToolError
from toolwright_server.toolkits.crm import contacts, deals, search, tags, toolkit
from toolwright_server.toolkits.crm.results import Contact
from toolwright_server.toolkits.crm.tables import DEALS_PER_CONTACT, STAGES, TAGS_PER_CONTACT

from .calls import SyncCall, accepted, fits, reason


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path) -> None:
    toolkit.configure({}, tmp_path)


@pytest.fixture
def call() -> SyncCall:
    return SyncCall()


@pytest.fixture
def ada(call: SyncCall) -> Contact:
    return contacts.create(call, "Ada Lovelace", "ada@example.org", "+44 20 7946 0018", {"company": "Würth 100%_a"})


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(ToolError) as caught:
        act()
    return reason(caught.value)


@pytest.mark.parametrize(
    ("query", "found"),
    [("", 1), ("ADA", 1), ("love ada", 1), ("example.org", 1), ("79460018", 1), ("würth", 1), ("WÜRTH", 1), ("0%", 1),
     ("%_", 1), ("%%", 0), ("ada bob", 0), ("'; DROP TABLE contacts --", 0), ("a" * 200, 0)],
)  # fmt: skip
def test_a_search_finds_words_anywhere_in_any_case(call: SyncCall, ada: Contact, query: str, found: int) -> None:
    page = search.search(call, query)
    assert len(page.contacts) == found
    assert fits(toolkit, "contact.search", page)


def test_pages_follow_each_other_without_gap_or_repetition(call: SyncCall) -> None:
    for number in range(23):
        # Equal names too: the order is by id then.
        contacts.create(call, f"Person {number // 3}", f"p{number}@example.org")
    seen: list[str] = []
    token = ""
    while True:
        page = search.search(call, "person", page_size=5, page_token=token)
        seen += [contact.contact_id for contact in page.contacts]
        token = page.next_page_token
        if not token:
            break
        # What comes and goes between pages moves no other contact.
        contacts.create(call, "A newcomer, person", f"{token}@example.org"[-60:])
    assert len(seen) == len(set(seen)) == 23


@pytest.mark.parametrize("token", ["x", "zz==", "W10=", "WzEsMl0=", "bnVsbA==", "ä", "[]", "A" * 2000])
def test_a_token_that_no_search_gave_is_refused(call: SyncCall, token: str) -> None:
    assert refused(lambda: search.search(call, page_token=token)) == "PAGE_TOKEN_INVALID"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=st.text(max_size=200), token=st.text(max_size=30))
def test_no_query_or_token_breaks_a_search(call: SyncCall, query: str, token: str) -> None:
    search.search(call, query)
    if token:
        assert refused(lambda: search.search(call, page_token=token)) == "PAGE_TOKEN_INVALID"


def test_a_tag_is_there_once_however_often_and_in_whatever_case_it_is_added(call: SyncCall, ada: Contact) -> None:
    tags.add(call, ada.contact_id, "VIP")
    tagged = tags.add(call, ada.contact_id, " vip ")
    assert tagged.tags == ["vip"]
    assert fits(toolkit, "tag.add", tagged)
    assert search.search(call, tag="Vip").contacts == [tagged]
    assert tags.remove(call, ada.contact_id, "ViP").tags == []
    assert tags.remove(call, ada.contact_id, "vip").tags == []
    assert search.search(call, tag="vip").contacts == []


def test_tags_are_bounded(call: SyncCall, ada: Contact) -> None:
    for number in range(TAGS_PER_CONTACT):
        tags.add(call, ada.contact_id, f"tag {number}")
    assert refused(lambda: tags.add(call, ada.contact_id, "one more")) == "TAGS_LIMIT"
    assert len(tags.add(call, ada.contact_id, "tag 7").tags) == TAGS_PER_CONTACT
    assert refused(lambda: tags.add(call, ada.contact_id, " ")) == "TAG_INVALID"
    assert refused(lambda: tags.add(call, ada.contact_id, "x" * 65)) == "TAG_INVALID"
    assert refused(lambda: tags.add(call, "nobody", "x")) == "CONTACT_NOT_FOUND"
    assert refused(lambda: tags.remove(call, "nobody", "x")) == "CONTACT_NOT_FOUND"


def test_a_deal_begins_as_a_lead_and_is_seen_with_its_contact(call: SyncCall, ada: Contact) -> None:
    first = deals.create(call, ada.contact_id, "Engine", amount=1_000_000, currency="EUR")
    second = deals.create(call, ada.contact_id, "Notes")
    assert fits(toolkit, "deal.create", first)
    assert (first.stage, first.previous_stage, first.amount, first.currency) == ("lead", None, 1_000_000, "EUR")
    assert contacts.get(call, ada.contact_id).deals == [second, first]


def test_what_is_no_deal_is_refused(call: SyncCall, ada: Contact) -> None:
    assert refused(lambda: deals.create(call, "nobody", "Engine")) == "CONTACT_NOT_FOUND"
    assert refused(lambda: deals.create(call, ada.contact_id, " ")) == "TITLE_INVALID"
    assert refused(lambda: deals.create(call, ada.contact_id, "Engine", amount=1)) == "CURRENCY_INVALID"
    assert refused(lambda: deals.create(call, ada.contact_id, "Engine", currency="EUR")) == "AMOUNT_INVALID"
    right = {"contact_id": "1", "title": "Engine", "amount": 1, "currency": "EUR"}
    assert accepted(toolkit, "deal.create", right)
    for wrong in ({"amount": -1}, {"amount": 1.5}, {"amount": 2**53}, {"currency": "eur"}, {"currency": "EURO"}):
        assert not accepted(toolkit, "deal.create", right | wrong)


def test_deals_are_bounded(call: SyncCall, ada: Contact) -> None:
    for number in range(DEALS_PER_CONTACT):
        deals.create(call, ada.contact_id, f"Deal {number}")
    assert refused(lambda: deals.create(call, ada.contact_id, "One more")) == "DEALS_LIMIT"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("asked", STAGES)
def test_a_deal_goes_only_where_its_stage_allows(call: SyncCall, ada: Contact, stage: Any, asked: Any) -> None:
    deal = deals.create(call, ada.contact_id, "Engine")
    ways: dict[str, list[Any]] = {
        "lead": [],
        "qualified": ["qualified"],
        "proposal": ["qualified", "proposal"],
        "negotiation": ["qualified", "proposal", "negotiation"],
        "won": ["qualified", "proposal", "won"],
        "lost": ["lost"],
    }
    for step in ways[stage]:
        deal = deals.update_stage(call, deal.deal_id, step)
    if asked == stage:
        assert deals.update_stage(call, deal.deal_id, asked) == deal
    elif asked in deals.NEXT_STAGES[stage]:
        moved = deals.update_stage(call, deal.deal_id, asked)
        assert (moved.stage, moved.previous_stage) == (asked, stage)
        assert fits(toolkit, "deal.update_stage", moved)
    else:
        with pytest.raises(ToolError) as caught:
            deals.update_stage(call, deal.deal_id, asked)
        assert reason(caught.value) == "STAGE_NOT_ALLOWED"
        allowed = caught.value.metadata["allowed"]
        assert set(filter(None, allowed.split(","))) == deals.NEXT_STAGES[stage]


def test_every_stage_of_the_schema_is_one_of_the_database() -> None:
    assert tuple(deals.NEXT_STAGES) == STAGES
    for stage in STAGES:
        assert accepted(toolkit, "deal.update_stage", {"deal_id": "1", "stage": stage})
    assert not accepted(toolkit, "deal.update_stage", {"deal_id": "1", "stage": "sold"})
    assert refused(lambda: deals.update_stage(SyncCall(), "nothing", "won")) == "DEAL_NOT_FOUND"
