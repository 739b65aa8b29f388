import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.model import NOTHING_BEFORE, Entry, Kind
from toolwright_server.records.audit.offline import lines


def entry(tenant: str = "acme", time: float = 1.5, **facts: str) -> Entry:
    return Entry(Kind.CALL, tenant, "key-1", "ann", time, "id", facts)


def test_a_chain_begins_with_an_entry_that_names_it() -> None:
    chains = Chains("server-1", 7)
    first, second = chains.link([entry()])
    assert (first.sequence, first.kind, first.previous) == (1, Kind.CHAIN, NOTHING_BEFORE)
    assert first.body == b'{"epoch":7,"format":1,"server":"server-1"}'
    assert (second.sequence, second.previous) == (2, first.hash)
    assert first.chain_id == second.chain_id == encoding.chain_id("acme", "server-1", 7)


def test_tenants_have_chains_of_their_own() -> None:
    rows = Chains("server-1", 7).link([entry("acme"), entry("zenith"), entry("acme")])
    assert [(row.tenant, row.sequence) for row in rows] == [
        ("acme", 1),
        ("acme", 2),
        ("zenith", 1),
        ("zenith", 2),
        ("acme", 3),
    ]


def test_what_was_not_committed_is_linked_as_if_it_had_never_been() -> None:
    chains = Chains("server-1", 7)
    chains.link([entry()])
    chains.keep()
    lost = chains.link([entry(what="lost")])
    chains.drop()
    kept = chains.link([entry(what="kept")])
    assert (kept[0].sequence, kept[0].previous) == (lost[0].sequence, lost[0].previous)
    assert [head.sequence for head in chains.heads()] == [2]
    chains.keep()
    assert [head.hash for head in chains.heads()] == [kept[0].hash]
    assert chains.kept == 3


def test_a_group_may_be_linked_in_several_steps() -> None:
    chains = Chains("server-1", 7)
    first = chains.link([entry()])
    second = chains.link([entry()])
    assert second[0].previous == first[-1].hash
    assert chains.heads() == []


def test_facts_that_cannot_be_written_are_refused_and_leave_the_chain_as_it_was() -> None:
    chains = Chains("server-1", 7)
    with pytest.raises(TypeError):
        chains.link([entry(), Entry(Kind.CALL, "acme", "", "", 1.0, facts={"what": object()})])  # pyright: ignore[reportArgumentType]
    chains.drop()
    assert chains.heads() == []
    assert chains.link([entry()])[0].sequence == 1


@given(st.floats(0, 4e9, allow_nan=False))
def test_the_time_of_a_row_and_that_of_its_hash_are_the_same(time: float) -> None:
    row = Chains("server-1", 7).link([entry(time=time)])[-1]
    line = encoding.entry_line(row)
    assert abs(row.time - time) <= 1e-6
    assert lines.entry(line).said["time"] == round(row.time * 1e6)


@given(st.text().filter(lambda text: text.isprintable()), st.text().filter(lambda text: text.isprintable()))
def test_the_verifier_knows_chains_by_the_same_ids(tenant: str, server: str) -> None:
    assert encoding.chain_id(tenant, server, 7) == lines.chain_id(tenant, server, 7)
    assert encoding.chain_id(None, server, 7) == lines.chain_id(None, server, 7)


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none())))
def test_whatever_an_entry_says_can_be_read_again(facts: dict[str, str | int | bool | None]) -> None:
    try:
        row = Chains("server-1", 7).link([Entry(Kind.CALL, "acme", "p", "u", 1.0, facts=facts)])[-1]
    except TypeError:
        # Half a surrogate pair, which no text of the wire can hold.
        assert any(0xD800 <= ord(sign) <= 0xDFFF for text in str(facts) for sign in text) or "\\ud" in str(facts)
        return
    assert lines.entry(encoding.entry_line(row)).said["facts"] == facts


def test_a_commit_that_broke_off_and_came_through_is_gone_on_from() -> None:
    chains = Chains("server-1", 7)
    lost = chains.link([entry(), entry(tenant="zenith")])
    chains.doubt()
    (head,) = chains.doubts()
    assert (head.sequence, head.hash) == (2, lost[1].hash)
    chains.resolve(head)
    assert chains.link([entry(tenant="zenith")])[0].previous == lost[3].hash
    assert chains.kept == 4


def test_a_commit_that_broke_off_is_looked_for_until_another_is_kept() -> None:
    chains = Chains("server-1", 7)
    chains.link([entry()])
    chains.doubt()
    again = chains.link([entry()])
    assert again[0].sequence == 1
    chains.drop()
    assert len(chains.doubts()) == 1
    chains.link([entry()])
    chains.keep()
    assert chains.doubts() == []


def test_a_commit_without_entries_leaves_no_doubt() -> None:
    chains = Chains("server-1", 7)
    chains.doubt()
    assert chains.doubts() == []
