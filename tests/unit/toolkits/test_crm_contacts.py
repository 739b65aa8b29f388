import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from toolwright_server import Effect, Runs, ToolError
from toolwright_server.toolkits.crm import contacts, deals, search, tables, tags, toolkit
from toolwright_server.toolkits.crm.database import reading, writing
from toolwright_server.toolkits.crm.results import Contact
from toolwright_server.toolkits.crm.tables import ATTRIBUTES_LIMIT_BYTES
from toolwright_server.toolkits.crm.text import as_json, merged

from .calls import SyncCall, accepted, fits, of_tenant, reason
from .workers import at_once


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path) -> None:
    toolkit.configure({}, tmp_path)


@pytest.fixture
def call() -> SyncCall:
    return SyncCall()


@pytest.fixture
def ada(call: SyncCall) -> Contact:
    return contacts.create(call, "Ada Lovelace", "ada@example.org", "+44 20 7946 0018", {"company": "Analytical"})


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(ToolError) as caught:
        act()
    return reason(caught.value)


def test_each_tool_says_what_it_does_to_the_world() -> None:
    effects = {tool.name.removeprefix("crm."): tool.effect for tool in toolkit.tools}
    assert effects == {
        "contact.create": Effect.SIDE_EFFECT,
        "contact.get": Effect.READ_ONLY,
        "contact.update": Effect.IDEMPOTENT,
        "contact.search": Effect.READ_ONLY,
        "contact.delete": Effect.IDEMPOTENT,
        "tag.add": Effect.IDEMPOTENT,
        "tag.remove": Effect.IDEMPOTENT,
        "deal.create": Effect.SIDE_EFFECT,
        "deal.update_stage": Effect.IDEMPOTENT,
    }
    assert {tool.runs for tool in toolkit.tools} == {Runs.PROCESS}
    assert {tool.category for tool in toolkit.tools} == {"crm"}


def test_every_tool_and_argument_is_described() -> None:
    for tool in toolkit.tools:
        assert tool.description
        for name, schema in tool.input_schema.document["properties"].items():
            assert "description" in str(schema) or name == "stage", f"{tool.name}: {name}"


def test_a_contact_is_kept_as_it_was_created(call: SyncCall, ada: Contact) -> None:
    found = contacts.get(call, ada.contact_id)
    assert fits(toolkit, "contact.create", ada)
    assert fits(toolkit, "contact.get", found)
    assert (found.name, found.email, found.phone) == ("Ada Lovelace", "ada@example.org", "+442079460018")
    assert (found.attributes, found.tags, found.deals) == ({"company": "Analytical"}, [], [])
    assert found.create_time == found.update_time
    assert found.create_time.endswith("Z")


def test_what_is_kept_outlives_the_process(tmp_path: Path, ada: Contact) -> None:
    code = (
        "import sys; from pathlib import Path; from toolwright_server.identity import ANONYMOUS;"
        "from toolwright_server.toolkits.crm import toolkit, contacts;"
        "call = type('Call', (), {'caller': ANONYMOUS});"
        "toolkit.configure({}, Path(sys.argv[1])); print(contacts.get(call, sys.argv[2]).email)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code, tmp_path, ada.contact_id], text=True)
    assert printed.strip() == "ada@example.org"


@pytest.mark.parametrize("email", ["ada@example.org", "ADA@Example.ORG", " ada@example.org "])
def test_an_email_address_is_taken_whatever_its_case(call: SyncCall, ada: Contact, email: str) -> None:
    with pytest.raises(ToolError) as caught:
        contacts.create(call, "Another", email)
    assert reason(caught.value) == "EMAIL_TAKEN"
    assert caught.value.metadata["contact_id"] == ada.contact_id


def test_letters_outside_ascii_are_compared_without_case_too(call: SyncCall) -> None:
    contacts.create(call, "Jürgen", "JÜRGEN@exämple.org")
    assert refused(lambda: contacts.create(call, "Jürgen", "jürgen@EXÄMPLE.org")) == "EMAIL_TAKEN"


def test_tenants_share_nothing(call: SyncCall, ada: Contact) -> None:
    other = of_tenant("other")
    theirs = contacts.create(other, "Their Ada", "ada@example.org")
    deal = deals.create(call, ada.contact_id, "Engine")
    for attempt in (
        lambda: contacts.get(other, ada.contact_id),
        lambda: contacts.update(other, ada.contact_id, name="Stolen"),
        lambda: tags.add(other, ada.contact_id, "stolen"),
        lambda: tags.remove(other, ada.contact_id, "vip"),
        lambda: deals.create(other, ada.contact_id, "Stolen"),
    ):
        assert refused(attempt) == "CONTACT_NOT_FOUND"
    assert refused(lambda: deals.update_stage(other, deal.deal_id, "lost")) == "DEAL_NOT_FOUND"
    assert not contacts.delete(other, ada.contact_id, delete_deals=True).deleted
    assert [found.contact_id for found in search.search(other, "ada").contacts] == [theirs.contact_id]
    assert contacts.get(call, ada.contact_id).name == "Ada Lovelace"


@pytest.mark.parametrize(
    "email",
    ["", "ada", "@example.org", "ada@", "ada@example", "a b@example.org", "a@b@example.org", "ada@exam..ple.org",
     "ada@.org", "ada@example.org\nBcc: x@y.org", "a\0@example.org", "<ada@example.org>", f"{'a' * 65}@example.org",
     f"a@{'b' * 250}.org"],
)  # fmt: skip
def test_what_is_no_email_address_is_refused(call: SyncCall, email: str) -> None:
    assert refused(lambda: contacts.create(call, "Ada", email)) == "EMAIL_INVALID"


@pytest.mark.parametrize("phone", ["12345678", "+0123456789", "+12345", "+1234567890123456", "+49 CALL", "tel:+49301"])
def test_what_is_no_international_number_is_refused(call: SyncCall, phone: str) -> None:
    assert refused(lambda: contacts.create(call, "Ada", "a@b.org", phone)) == "PHONE_INVALID"


@pytest.mark.parametrize("name", ["", "  ", "\n", "x" * 201, "Ada\0Lovelace", "Ada\x1b[31m"])
def test_what_is_no_name_is_refused(call: SyncCall, name: str) -> None:
    assert refused(lambda: contacts.create(call, name, "a@b.org")) == "NAME_INVALID"


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


@pytest.mark.parametrize(
    "attributes",
    [{"x": "ä" * ATTRIBUTES_LIMIT_BYTES}, {str(key): 0 for key in range(65)}, {"": 1}, {"k" * 65: 1}, deep(900)],
    ids=["large", "many", "empty", "long", "deep"],
)
def test_attributes_are_bounded(call: SyncCall, ada: Contact, attributes: dict[str, Any]) -> None:
    assert refused(lambda: contacts.create(call, "B", "b@b.org", None, attributes)) == "ATTRIBUTES_INVALID"
    assert refused(lambda: contacts.update(call, ada.contact_id, attributes=attributes)) == "ATTRIBUTES_INVALID"


def test_attributes_may_fill_all_the_room_there_is(call: SyncCall) -> None:
    room = ATTRIBUTES_LIMIT_BYTES - len(as_json({"x": ""}))
    attributes = {"x": "ä" * (room // 2) + "a" * (room % 2)}
    assert contacts.create(call, "B", "b@b.org", None, attributes).attributes == attributes


def test_an_update_changes_what_is_given_and_nothing_else(call: SyncCall, ada: Contact) -> None:
    changed = contacts.update(call, ada.contact_id, name="Ada King", attributes={"company": None, "title": "Countess"})
    assert (changed.name, changed.email, changed.phone) == ("Ada King", ada.email, ada.phone)
    assert changed.attributes == {"title": "Countess"}
    assert changed.update_time > ada.update_time
    assert contacts.update(call, ada.contact_id, phone="").phone is None
    assert fits(toolkit, "contact.update", changed)


def test_the_same_update_twice_changes_nothing_the_second_time(call: SyncCall, ada: Contact) -> None:
    first = contacts.update(call, ada.contact_id, email="ADA@example.org", attributes={"a": {"b": 1}})
    assert contacts.update(call, ada.contact_id, email="ADA@example.org", attributes={"a": {"b": 1}}) == first


def test_an_update_cannot_take_anothers_address(call: SyncCall, ada: Contact) -> None:
    bob = contacts.create(call, "Bob", "bob@example.org")
    assert refused(lambda: contacts.update(call, bob.contact_id, email="Ada@example.org")) == "EMAIL_TAKEN"
    assert refused(lambda: contacts.update(call, "nobody", name="X")) == "CONTACT_NOT_FOUND"


def test_a_contact_that_has_deals_is_not_deleted_by_mistake(call: SyncCall, ada: Contact) -> None:
    deals.create(call, ada.contact_id, "Engine")
    tags.add(call, ada.contact_id, "vip")
    assert refused(lambda: contacts.delete(call, ada.contact_id)) == "CONTACT_HAS_DEALS"
    gone = contacts.delete(call, ada.contact_id, delete_deals=True)
    assert (gone.deleted, gone.deals_deleted) == (True, 1)
    assert fits(toolkit, "contact.delete", gone)
    again = contacts.delete(call, ada.contact_id)
    assert (again.deleted, again.deals_deleted) == (False, 0)
    with reading() as connection:
        for table in ("contact_tags", "deals", "contacts"):
            assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"email_key": "ada@example.org"},
        {"name": ""},
        {"phone": "030"},
        {"attributes": "no object"},
        {"attributes": {"x": "x" * ATTRIBUTES_LIMIT_BYTES}},
    ],
    ids=str,
)
def test_the_database_itself_refuses_what_must_not_be(call: SyncCall, ada: Contact, change: dict[str, Any]) -> None:
    contacts.create(call, "Bob", "bob@example.org")
    bob = tables.contacts.c.email == "bob@example.org"
    with pytest.raises(IntegrityError), writing() as connection:
        connection.execute(sa.update(tables.contacts).where(bob).values(change))


def test_a_busy_database_may_be_asked_again_later(tmp_path: Path, call: SyncCall, ada: Contact) -> None:
    toolkit.configure({"busy_timeout_seconds": 0.05}, tmp_path / "other")
    contacts.create(call, "First", "first@example.org")
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        with writing():
            ready.set()
            over.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert ready.wait(20)
    with pytest.raises(ToolError) as caught:
        contacts.create(call, "Second", "second@example.org")
    assert search.search(call, "first").contacts
    over.set()
    holder.join()
    assert reason(caught.value) == "STORE_BUSY"
    assert caught.value.retryable
    assert contacts.create(call, "Second", "second@example.org").email == "second@example.org"


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path, call: SyncCall, ada: Contact) -> None:
    with writing() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 99")
    toolkit.configure({}, tmp_path / "moved")
    (tmp_path / "moved" / "toolkits").mkdir(parents=True)
    (tmp_path / "toolkits" / "crm").rename(tmp_path / "moved" / "toolkits" / "crm")
    with pytest.raises(RuntimeError, match="newer release"):
        contacts.get(call, ada.contact_id)


def test_many_processes_at_once_make_one_database_and_one_contact_for_each_address(
    tmp_path: Path, call: SyncCall
) -> None:
    toolkit.configure({"busy_timeout_seconds": 30}, tmp_path)

    def work(number: int) -> str:
        answers: list[str] = []
        for person in range(20):
            try:
                answers.append(contacts.create(call, f"Worker {number}", f"Person{person}@example.org").name)
            except ToolError as error:
                answers.append(error.reason)
        return " ".join(answer.split()[0] for answer in answers)

    words = " ".join(at_once(6, work)).split()
    assert sorted(words) == ["EMAIL_TAKEN"] * 100 + ["Worker"] * 20
    assert len(search.search(call, page_size=100).contacts) == 20


def test_an_engine_is_not_carried_through_a_fork(call: SyncCall, ada: Contact) -> None:
    assert at_once(1, lambda _: contacts.create(call, "Child", "child@example.org").name) == ["Child"]
    assert len(search.search(call).contacts) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


@given(objects, objects)
def test_merging_the_same_twice_is_merging_it_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merged(target, patch)
    assert merged(once, patch) == once


def test_the_schema_refuses_other_types() -> None:
    right: dict[str, Any] = {"name": "Ada", "email": "ada@example.org"}
    assert accepted(toolkit, "contact.create", right)
    for field, value in [("name", 1), ("email", None), ("attributes", "x"), ("phone", 49), ("nickname", "A")]:
        assert not accepted(toolkit, "contact.create", right | {field: value})
